/**
 * The test command: `deno task test [--fast] [--allow-skips=TOOL,…] [PATH PART…]`. Runs the tests
 * under `src` and `tests`, lists every skipped test with its reason, and ends with one line
 * "N passed, N failed, N skipped". It runs tests; it does not type-check, format or lint.
 *
 * `--fast` leaves out files named `*_slow_test.ts`. With `--allow-skips`, a skip for any other tool
 * fails the run. Path parts select the files whose path contains one of them.
 */
import { fileURLToPath } from "node:url";
import { parseReport, type TestCase } from "./report.ts";
import { parseSkippedName } from "./skip.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

interface Options {
  readonly fast: boolean;
  /** Tools whose absence may skip tests; undefined: any. */
  readonly allowedSkips: readonly string[] | undefined;
  readonly pathParts: readonly string[];
}

/** Reads the command line. Throws TypeError for an unknown flag. */
export function parseArguments(args: readonly string[]): Options {
  let fast = false;
  let allowedSkips: string[] | undefined;
  const pathParts: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    const [flag, value] = arg.split("=", 2) as [string, string | undefined];
    if (arg === "--fast") fast = true;
    else if (flag === "--allow-skips") {
      allowedSkips = (value ?? args[++i] ?? "").split(",").filter(Boolean);
    } else if (arg.startsWith("-")) {
      throw new TypeError(`Unknown flag ${arg}: use --fast, --allow-skips=TOOL,… or path parts`);
    } else pathParts.push(arg);
  }
  return { fast, allowedSkips, pathParts };
}

/** Test files under a folder, relative to the root, sorted. */
export function testFiles(folder: string): string[] {
  const files: string[] = [];
  for (const entry of Deno.readDirSync(`${root}/${folder}`)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory && entry.name !== "node_modules") files.push(...testFiles(path));
    if (entry.isFile && /_test\.tsx?$/.test(entry.name)) files.push(path);
  }
  return files.sort();
}

function selectFiles({ fast, pathParts }: Options): string[] {
  return [...testFiles("src"), ...testFiles("tests")].filter((path) => {
    if (fast && /_slow_test\.tsx?$/.test(path)) return false;
    return pathParts.length === 0 || pathParts.some((part) => path.includes(part));
  });
}

/** Runs the files in one child and reads its report; `success` is the child's own verdict. */
export async function runTests(
  files: readonly string[],
  options: { folder?: string; output?: "inherit" | "null" } = {},
): Promise<{ success: boolean; cases: readonly TestCase[] }> {
  const reportPath = await Deno.makeTempFile({ prefix: "tests", suffix: ".xml" });
  try {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["test", "--allow-all", "--no-check", "--unstable-no-legacy-abort"]
        .concat([`--junit-path=${reportPath}`, ...files]),
      cwd: options.folder ?? root,
      stdin: "null",
      stdout: options.output ?? "inherit",
      stderr: options.output ?? "inherit",
    }).spawn();
    const { success } = await child.status;
    return { success, cases: parseReport(await Deno.readTextFile(reportPath)) };
  } finally {
    await Deno.remove(reportPath);
  }
}

/** The verdict on a run: lines to print (the counts last) and whether it counts as passed. */
export function summarize(
  run: { success: boolean; cases: readonly TestCase[] },
  allowedSkips: readonly string[] | undefined,
): { lines: string[]; passed: boolean } {
  const count = (state: TestCase["state"]) =>
    run.cases.filter((testCase) => testCase.state === state).length;
  const skips = run.cases.filter(({ state }) => state === "skipped")
    .map(({ name }) => parseSkippedName(name));
  const refused = skips.filter(({ tool }) => allowedSkips && !allowedSkips.includes(tool));
  const lines = skips.map(({ name, tool, missing }) => `skipped: ${name} (${tool}: ${missing})`);
  for (const { name, tool } of refused) lines.push(`not allowed to be skipped (${tool}): ${name}`);
  // A file that does not load fails the run without a failed test; so does a run of nothing.
  const broken = !run.success || run.cases.length === 0;
  const failed = Math.max(count("failed"), broken ? 1 : 0) + refused.length;
  lines.push(`${count("passed")} passed, ${failed} failed, ${skips.length} skipped`);
  return { lines, passed: failed === 0 };
}

async function main(): Promise<void> {
  const options = parseArguments(Deno.args);
  const files = selectFiles(options);
  if (files.length === 0) throw new TypeError(`No test file matches ${options.pathParts}`);
  const { lines, passed } = summarize(await runTests(files), options.allowedSkips);
  await Deno.stdout.write(new TextEncoder().encode(`\n${lines.join("\n")}\n`));
  Deno.exitCode = passed ? 0 : 1;
}

if (import.meta.main) await main();
