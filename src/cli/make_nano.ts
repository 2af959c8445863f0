/**
 * `deno task nano`: makes the shipped model. From nothing (random weights and a tokenizer of the makers' own
 * words) or from a model that is there, through the stages of `src/training/recipes`, to a bfloat16
 * folder with scores. Everything on the way lies in an ignored folder, and the same command goes on
 * after any interruption. `--help` lists what it takes.
 */
import { join, resolve } from "node:path";
import { OperatingError } from "@/errors.ts";
import {
  nothingBook,
  pipelineRuns,
  recipeBook,
  sparseBook,
} from "@/training/recipes/recipe_book.ts";
import { readModelFolder, writeModelFolder } from "@/training/making/model_folder.ts";
import { growResolution } from "@/training/making/resolution_growth.ts";
import { upcycleModel } from "@/training/making/sparse_upcycling.ts";
import { parseFlags } from "./flags.ts";
import { scoreNano, SECOND_RENDERER_ITEMS } from "./nano_scores.ts";
import { newNano } from "./new_nano.ts";
import { printLine } from "./terminal.ts";
import { runStages } from "./train_pipeline.ts";

const USAGE = `deno task nano [FLAGS]
  --out DIR          state of the stages (runs/nano)
  --model DIR        start from this model instead of from nothing
  --from STAGE       first stage; without --model it goes on from the stage before it
  --until STAGE      last stage
  --steps-share S    of each stage's steps, for trials (1)
  --threads N        compute threads (one per core)
  --sparse           make a model of 8 experts, 2 per token, of the last one, then balance it
  --export DIR       write the last model there in bfloat16, with scores.json and its card's table
  --score DIR        make nothing: score the model in DIR, write its scores.json and its card's table
  --items FILE       the second renderer's items for the scores (those of the tests)
  --count N          items per task that the scores are of (1000)`;

/** Items per task of a card's scores. */
const SCORED_ITEMS = 1000;

/** Side of a tile by stage: small tiles first, several times as many pictures in the same time. */
const tileSizes: Readonly<Record<string, number>> = {
  first_reading: 112,
  vit_warmup: 112,
  fine_grained: 168,
  world_knowledge: 224,
};

interface Options {
  readonly folder: string;
  readonly values: ReadonlyMap<string, string>;
  readonly sparse: boolean;
  /** What the commands of `train` are given along. */
  readonly shared: readonly string[];
}

function readArguments(args: readonly string[]): Options {
  const known = [
    ...["out", "model", "from", "until", "steps-share", "threads"],
    ...["export", "score", "items", "count"],
  ];
  const values = new Map<string, string>();
  let sparse = false;
  for (let i = 0; i < args.length; i++) {
    const name = args[i]!.replace(/^--/, "");
    if (name === "sparse") sparse = true;
    else if (known.includes(name) && args[i + 1] !== undefined) values.set(name, args[++i]!);
    else throw new OperatingError("invalid_request", `Cannot use ${args[i]}\n\n${USAGE}`);
  }
  const shared = ["threads", "steps-share"].flatMap((name) =>
    values.has(name) ? [`--${name}`, values.get(name)!] : []
  );
  return { folder: resolve(values.get("out") ?? join("runs", "nano")), values, sparse, shared };
}

/** The first model of the stages: given, or made of nothing once. */
async function startModel({ folder, values }: Options): Promise<string> {
  const given = values.get("model");
  if (given !== undefined) return resolve(given);
  const out = join(folder, "nothing");
  const isThere = await Deno.stat(join(out, "model.safetensors")).catch(() => undefined);
  if (!isThere) await writeModelFolder(out, await newNano(tileSizes["first_reading"]!), "F32");
  return out;
}

/** A stage's start with tiles of the stage's size, if that is another. */
async function grown(
  { id, modelFolder, folder }: { id: string; modelFolder: string; folder: string },
): Promise<string> {
  const model = await readModelFolder(modelFolder);
  const tileSize = tileSizes[id] ?? model.config.preprocess.tileSize;
  if (tileSize <= model.config.preprocess.tileSize) return modelFolder;
  const out = join(folder, "grown");
  await writeModelFolder(out, growResolution(model, tileSize), "F32");
  return out;
}

async function makeStages(options: Options): Promise<string | undefined> {
  const { folder, values, shared } = options;
  const flags = parseFlags("train", ["pipeline", ...shared]);
  const book = values.has("model") ? recipeBook : nothingBook;
  return await runStages(flags, {
    runs: pipelineRuns(book),
    folder,
    start: await startModel(options),
    from: values.get("from"),
    until: values.get("until"),
    buildsOnEarlier: !values.has("model"),
    prepare: grown,
  });
}

/** Experts of a dense model, then a short run that tells them apart and loads them evenly. */
async function makeSparse(dense: string, { folder, shared }: Options): Promise<string | undefined> {
  const out = join(folder, "upcycled");
  const options = { experts: 8, expertsPerToken: 2, noise: 0.1, seed: 5 };
  await writeModelFolder(out, upcycleModel(await readModelFolder(dense), options), "F32");
  return await runStages(parseFlags("train", ["pipeline", ...shared]), {
    runs: pipelineRuns(sparseBook),
    folder,
    start: out,
  });
}

async function exportModel(model: string, options: Options): Promise<void> {
  const out = resolve(options.values.get("export")!);
  await writeModelFolder(out, await readModelFolder(model), "BF16");
  await writeScores(out, options);
}

async function writeScores(folder: string, { values }: Options): Promise<void> {
  await scoreNano(folder, {
    count: wholeNumber(values, "count") ?? SCORED_ITEMS,
    threads: wholeNumber(values, "threads"),
    secondRendererItems: values.get("items") ?? SECOND_RENDERER_ITEMS,
  });
}

function wholeNumber(values: Options["values"], name: string): number | undefined {
  const text = values.get(name);
  if (text === undefined) return undefined;
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text);
  const message = `--${name} is "${text}", expected a whole number from 1\n\n${USAGE}`;
  throw new OperatingError("invalid_request", message, { field: name });
}

/** Runs what the arguments ask for; prints how far it came. */
export async function makeNano(args: readonly string[]): Promise<void> {
  if (args.includes("--help")) return printLine(USAGE);
  const options = readArguments(args);
  const scored = options.values.get("score");
  if (scored !== undefined) return await writeScores(resolve(scored), options);
  await Deno.mkdir(options.folder, { recursive: true });
  const dense = await makeStages(options);
  const last = dense !== undefined && options.sparse ? await makeSparse(dense, options) : dense;
  if (last === undefined) return printLine("stopped: the same command goes on");
  if (options.values.has("export")) await exportModel(last, options);
  printLine(`done: ${last}`);
}
