/**
 * Supervised steps as a recipe says: packed rounds of makers' samples, the schedule's rate times
 * what AdaLRS found, the curriculum by measured accuracy. A probe of AdaLRS that loses is taken back
 * whole: weights, moments, step, data and curriculum.
 */
import { basename } from "node:path";
import { assert } from "@/assert.ts";
import { packBatch, type TokenizedSample } from "@/data/stream/packed_batch.ts";
import {
  type SampleReference,
  SampleStream,
  type StreamCursor,
} from "@/data/stream/sample_stream.ts";
import { OperatingError } from "@/errors.ts";
import { inlineCodec } from "@/media/codec.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import {
  ADAPTIVE_RATE_DEFAULTS,
  ADAPTIVE_RATE_START,
  type AdaptiveRateOptions,
  type AdaptiveRateState,
  observeLoss,
  type RateAction,
  type RateDecision,
} from "./control/adaptive_rate.ts";
import {
  CURRICULUM_START,
  type CurriculumState,
  observeAnswers,
  READING_LEVELS,
} from "./control/curriculum.ts";
import { rateFactor } from "./control/rate_schedule.ts";
import { DataFile } from "./data_file.ts";
import { type GreedyAnswer, greedyAnswers } from "./greedy_accuracy.ts";
import { rateSchedule, type SupervisedRecipe } from "./recipes/recipe.ts";
import type { ResumedRun } from "./run_checkpoint.ts";
import type { Completion, StepFigures } from "./run_log.ts";
import { parameterRate, type RunSetting } from "./run_setting.ts";
import {
  encodeSnapshot,
  readSnapshot,
  restoreSnapshot,
  type Snapshot,
  takeSnapshot,
} from "./run_snapshot.ts";
import { mixtureSources, StageSamples } from "./stage_samples.ts";
import type { RunDriver } from "./training_run.ts";

/** A sample in tokens that still knows what it is. */
interface StageItem extends TokenizedSample {
  readonly reference: SampleReference;
  readonly question: string;
}

/** What AdaLRS puts back besides weights and moments. */
interface RunPosition {
  readonly cursor: StreamCursor;
  readonly curriculum: CurriculumState | undefined;
}

/** JSON of a checkpoint. */
interface SupervisedState extends RunPosition {
  readonly adaptive: AdaptiveRateState | undefined;
  /** Hashes of the data files by name. */
  readonly files: Readonly<Record<string, string>>;
  /** While a probe runs; the stores are in a file. */
  readonly probe: (RunPosition & { readonly stepCount: number }) | undefined;
}

const PROBE_FILE = "probe.safetensors";
/** Answers that the log shows, and answers between two of them. */
const COMPLETIONS = 4;
const COMPLETION_STEPS = 50;
/** Tasks that the levels of the curriculum are made for. */
const READING_TASKS = ["word", "string", "number"];

export class SupervisedRun implements RunDriver {
  readonly #setting: RunSetting;
  readonly #recipe: SupervisedRecipe;
  readonly #samples: StageSamples;
  readonly #graded: ReadonlySet<string>;
  /** By name. */
  readonly #files = new Map<string, DataFile>();
  #stream!: SampleStream<StageItem>;
  #curriculum: CurriculumState | undefined;
  #adaptive: AdaptiveRateState | undefined;
  #probe: (RunPosition & { readonly snapshot: Snapshot }) | undefined;

  private constructor(setting: RunSetting, recipe: SupervisedRecipe) {
    this.#setting = setting;
    this.#recipe = recipe;
    this.#samples = new StageSamples(recipe.data);
    this.#graded = gradedTasks(recipe);
  }

  /** At the beginning, or at what a checkpoint kept. */
  static async open(
    setting: RunSetting,
    recipe: SupervisedRecipe,
    resumed: ResumedRun | undefined,
  ): Promise<SupervisedRun> {
    const run = new SupervisedRun(setting, recipe);
    const state = resumed?.run as SupervisedState | undefined;
    run.#curriculum = recipe.data.curriculum && (state?.curriculum ?? CURRICULUM_START);
    run.#adaptive = recipe.adaptiveRate && (state?.adaptive ?? ADAPTIVE_RATE_START);
    await run.#openFiles(state?.files);
    await run.#openStream(state?.cursor);
    if (resumed && state?.probe) {
      const { stepCount, cursor, curriculum } = state.probe;
      const folder = diskFolder(resumed.folder);
      const snapshot = await readSnapshot(folder, { file: PROBE_FILE, stepCount });
      run.#probe = { cursor, curriculum, snapshot };
    }
    return run;
  }

  get stepsDone(): number {
    return this.#setting.trainer.optimizer.stepCount;
  }

  get state(): SupervisedState {
    const probe = this.#probe && {
      stepCount: this.#probe.snapshot.stepCount,
      cursor: this.#probe.cursor,
      curriculum: this.#probe.curriculum,
    };
    const files = Object.fromEntries([...this.#files].map(([name, { sha256 }]) => [name, sha256]));
    return { ...this.#position(), adaptive: this.#adaptive, files, probe };
  }

  files(): Promise<ReadonlyMap<string, Uint8Array>> {
    const files = new Map<string, Uint8Array>();
    if (this.#probe) files.set(PROBE_FILE, encodeSnapshot(this.#probe.snapshot));
    return Promise.resolve(files);
  }

  async step(): Promise<StepFigures> {
    const { trainer } = this.#setting;
    const recipe = this.#recipe;
    const step = this.stepsDone;
    const rate = recipe.optimizer.peakRate * rateFactor(rateSchedule(recipe), step) *
      (this.#adaptive?.factor ?? 1);
    const packs = await this.#stream.nextRound();
    const batches = packs.map(({ items }) => packBatch(items, recipe.lossReduction));
    const measured = this.#curriculum !== undefined || (step + 1) % recipe.accuracySteps === 0;
    const { greedy, ...result } = await trainer.step(
      batches,
      (parameter) => parameterRate(recipe, parameter, rate),
      { greedy: measured },
    );
    const answers = batches.flatMap((batch, i) => greedy ? greedyAnswers(batch, greedy[i]!) : []);
    const items = packs.flatMap((pack) => pack.items);
    if (measured) this.#grade(items, answers);
    const decision = await this.#control(step, result.loss);
    return {
      ...result,
      rate,
      ...decision && { decision },
      ...this.#curriculum && { level: this.#curriculum.level },
      ...measured && accuracyOf(items, answers),
      ...measured && (step === 0 || (step + 1) % COMPLETION_STEPS === 0) &&
        { completions: this.#completions(items, answers) },
    };
  }

  #position(): RunPosition {
    return { cursor: this.#stream.cursor, curriculum: this.#curriculum };
  }

  async #openStream(cursor: StreamCursor | undefined): Promise<void> {
    const { data, packing } = this.#recipe;
    const rows = (data.files ?? []).map(({ path, weight }) => {
      const { name, size } = this.#files.get(basename(path))!;
      return { name, weight, size };
    });
    const sources = [...mixtureSources(data), ...rows];
    const read = (reference: SampleReference) => this.#encode(reference);
    const { seed } = data;
    this.#stream = await SampleStream.open<StageItem>({ sources, seed, packing, read }, cursor);
  }

  async #openFiles(known: Readonly<Record<string, string>> | undefined): Promise<void> {
    const codec = inlineCodec();
    for (const { path } of this.#recipe.data.files ?? []) {
      const file = await DataFile.open(path, codec);
      if (known && known[file.name] !== file.sha256) {
        throw new OperatingError(
          "checkpoint_invalid",
          `Cannot resume: ${path} is not the file that the run began with`,
        );
      }
      this.#files.set(file.name, file);
    }
  }

  async #encode(reference: SampleReference): Promise<StageItem> {
    const file = this.#files.get(reference.source);
    const { sample, ...style } = file
      ? await file.read(reference.index)
      : this.#samples.make(reference);
    const tokenized = this.#setting.encoder.encode(sample, style);
    return { ...tokenized, reference, question: sample.turns[0]!.question };
  }

  /** Answers of the level at hand move the curriculum on. */
  #grade(items: readonly StageItem[], answers: readonly GreedyAnswer[]): void {
    const { curriculum } = this.#recipe.data;
    if (!curriculum || !this.#curriculum) return;
    const { level } = this.#curriculum;
    const counted = answers.filter((_, i) => {
      const { reference } = items[i]!;
      return reference.level === level && this.#graded.has(reference.source);
    });
    this.#curriculum = observeAnswers(this.#curriculum, counted.map(({ right }) => right), {
      levels: READING_LEVELS.length,
      ...curriculum,
    });
    this.#stream.setLevel(this.#curriculum.level);
  }

  async #control(step: number, loss: number): Promise<RateDecision | undefined> {
    if (!this.#adaptive) return undefined;
    const options = adaptiveOptions(this.#recipe);
    const { state, action, decision } = observeLoss(this.#adaptive, { step, loss }, options);
    this.#adaptive = state;
    await this.#act(action);
    return decision;
  }

  async #act(action: RateAction): Promise<void> {
    const { backend, model: { set }, trainer: { optimizer } } = this.#setting;
    const parts = { backend, set, optimizer };
    if (action === "snapshot") {
      this.#probe = { ...this.#position(), snapshot: await takeSnapshot(parts) };
    } else if (action === "release") {
      this.#probe = undefined;
    } else if (action === "rollback") {
      assert(this.#probe, "a probe is taken back that never began");
      const { snapshot, cursor, curriculum } = this.#probe;
      this.#probe = undefined;
      await restoreSnapshot(parts, snapshot);
      this.#curriculum = curriculum;
      await this.#openStream(cursor);
    }
  }

  #completions(items: readonly StageItem[], answers: readonly GreedyAnswer[]): Completion[] {
    const text = (ids: Int32Array) =>
      this.#setting.tokenizer.decode(ids, { skipSpecialTokens: true });
    const stride = Math.max(1, Math.floor(answers.length / COMPLETIONS));
    return answers.flatMap(({ right, targets, greedy }, i) => {
      if (i % stride !== 0 || i / stride >= COMPLETIONS) return [];
      const { reference: { source: task }, question } = items[i]!;
      return { task, question, answer: text(greedy), expected: text(targets), right };
    });
  }
}

/** Tasks whose answers move the curriculum. */
function gradedTasks({ data: { mixture, curriculum } }: SupervisedRecipe): ReadonlySet<string> {
  if (curriculum?.tasks) return new Set(curriculum.tasks);
  const mixed = Object.entries(mixture).filter(([, weight]) => weight! > 0).map(([task]) => task);
  const reading = mixed.filter((task) => READING_TASKS.includes(task));
  return new Set(reading.length > 0 ? reading : mixed);
}

/** The controller's options in steps. */
function adaptiveOptions({ adaptiveRate, steps }: SupervisedRecipe): AdaptiveRateOptions {
  assert(adaptiveRate, "a recipe without AdaLRS");
  return {
    ...ADAPTIVE_RATE_DEFAULTS,
    ...adaptiveRate,
    searchFrom: adaptiveRate.searchFrom * steps,
    searchTo: adaptiveRate.searchTo * steps,
  };
}

function accuracyOf(
  items: readonly StageItem[],
  answers: readonly GreedyAnswer[],
): Pick<StepFigures, "accuracy" | "accuracyByTask"> {
  const accuracyByTask: Record<string, [number, number]> = {};
  for (const [i, { right }] of answers.entries()) {
    const counts = accuracyByTask[items[i]!.reference.source] ??= [0, 0];
    if (right) counts[0]++;
    counts[1]++;
  }
  const right = answers.filter(({ right }) => right).length;
  return { accuracy: right / Math.max(1, answers.length), accuracyByTask };
}
