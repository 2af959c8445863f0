/** Chooses the command; turns expected failures into one line and an exit code. */
import { OperatingError } from "@/errors.ts";
import {
  type CommandName,
  commands,
  type Flags,
  helpText,
  parseFlags,
  UsageError,
} from "./flags.ts";
import { printError, printLine } from "./terminal.ts";

/** Exit codes: 0 done, 1 failed, 2 wrong command line. */
type Command = (flags: Flags) => Promise<number>;

/** Loaded on demand, so `doctor` does not load a server. */
const loaders: Readonly<Record<CommandName, () => Promise<Command>>> = {
  serve: async () => (await import("./serve.ts")).serve,
  shard: async () => (await import("./shard.ts")).shard,
  cluster: async () => (await import("./cluster.ts")).cluster,
  chat: async () => (await import("./chat.ts")).chat,
  quantize: async () => (await import("./quantize.ts")).quantize,
  train: async () => (await import("./train.ts")).train,
  doctor: async () => (await import("./doctor.ts")).doctor,
  parity: async () => (await import("./parity.ts")).parity,
  bench: async () => (await import("./bench.ts")).bench,
};

/** Runs one command line and returns the exit code. */
export async function run(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === "help" || name === "--help") {
    printLine(helpText());
    return name === undefined ? 2 : 0;
  }
  if (!Object.hasOwn(commands, name)) {
    printError(`Unknown command "${name}"\n\n${helpText()}`);
    return 2;
  }
  const command = name as CommandName;
  try {
    const flags = parseFlags(command, rest);
    if (flags.on("help")) {
      printLine(helpText(command));
      return 0;
    }
    return await (await loaders[command]())(flags);
  } catch (error) {
    if (error instanceof UsageError) {
      printError(`Error: ${error.message}`);
      return 2;
    }
    if (error instanceof OperatingError) {
      printError(`Error: ${error.message}`);
      return 1;
    }
    throw error;
  }
}
