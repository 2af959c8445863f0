/** The makers' samples of a stage: which task, how hard, and whether it is asked to think. */
import { hashText } from "@/data/dice.ts";
import { defaultSettings, makeSample, parseTaskName } from "@/data/makers/maker_registry.ts";
import type { MakerSettings, Sample } from "@/data/makers/sample.ts";
import type { MixtureSource } from "@/data/stream/mixture.ts";
import type { SampleReference } from "@/data/stream/sample_stream.ts";
import { uniformAt } from "@/random.ts";
import { settingsAt } from "./control/curriculum.ts";
import type { RecipeData } from "./recipes/recipe.ts";

/** Tasks and weights as a mixture's sources. */
export function mixtureSources({ mixture }: Pick<RecipeData, "mixture">): MixtureSource[] {
  return Object.entries(mixture).map(([name, weight]) => ({ name, weight: weight! }));
}

/** The makers' settings of a stage at full difficulty. */
export function stageSettings({ makers = {} }: Pick<RecipeData, "makers">): MakerSettings {
  const { side, ...changes } = makers;
  return { ...defaultSettings(side), ...changes };
}

export interface StageSample {
  readonly sample: Sample;
  /** It has a thought and is asked to think. */
  readonly thinking: boolean;
  /** Another system text than the grammar's. */
  readonly systemText?: string;
}

/** Makes samples of a stage; each depends on its reference alone. */
export class StageSamples {
  readonly #data: RecipeData;
  readonly #settings: MakerSettings;

  constructor(data: RecipeData) {
    this.#data = data;
    this.#settings = stageSettings(data);
  }

  make(
    { source, index: drawn, level }: Pick<SampleReference, "source" | "index" | "level">,
  ): StageSample {
    const { seed, thinkingShare, curriculum, distinctSamples = Infinity } = this.#data;
    const index = drawn % distinctSamples;
    const settings = curriculum ? settingsAt(this.#settings, level) : this.#settings;
    const sample = makeSample(parseTaskName(source), { seed, index, settings });
    const hasThought = sample.turns.every(({ thought }) => thought !== undefined);
    const draw = uniformAt(seed, hashText(`thinking/${source}`), index);
    return { sample, thinking: hasThought && draw < thinkingShare };
  }
}
