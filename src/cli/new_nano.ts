/**
 * nano before any training: its architecture, a tokenizer of the words that the makers use, and
 * random weights. Keys of the files are those of the released 2B model.
 */
import { THINKING_INSTRUCTION } from "@/chat/template.ts";
import { defaultSettings, makeSample, taskNames } from "@/data/makers/maker_registry.ts";
import type { ModelConfig } from "@/model/config.ts";
import { writeModelConfig } from "@/model/config_writer.ts";
import type { WholeModel } from "@/training/making/model_folder.ts";
import { questionTokenizer } from "@/training/making/question_tokenizer.ts";
import { randomWeights } from "@/training/making/random_weights.ts";

const SYSTEM_TEXT = "You are Nano.";
const VOCABULARY = 700;
const SEED = 7;
/** Samples per task that the tokenizer's corpus is of. */
const CORPUS_SAMPLES = 40;

/** Everything that the makers and the prompt ever say in words. */
function* corpus(): Generator<string> {
  // The instruction stands in every thinking prompt: its words come first.
  for (let i = 0; i < CORPUS_SAMPLES; i++) yield THINKING_INSTRUCTION;
  yield SYSTEM_TEXT;
  const settings = { ...defaultSettings(32), spoiling: 0 };
  for (const task of taskNames) {
    for (let index = 0; index < CORPUS_SAMPLES; index++) {
      const { turns } = makeSample(task, { seed: SEED, index, settings });
      for (const { question, thought } of turns) {
        yield question;
        if (thought !== undefined) yield thought;
      }
    }
  }
}

/** The chat grammar as Hugging Face templates spell it; serving reads the system text out of it. */
const CHAT_TEMPLATE = `{%- for message in messages -%}
  {%- if loop.first and messages[0]['role'] != 'system' -%}
    {{'<|im_start|>system\\n${SYSTEM_TEXT}<|im_end|>'}}
  {%- endif -%}
  {{'<|im_start|>' + message['role'] + '\\n'}}
  {%- if message['content'] is string -%}
    {{- message['content'] -}}
  {%- else -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] == 'image' or 'image' in part or 'image_url' in part -%}{{'<image>\\n'}}\
{%- else -%}{{part['text']}}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{'<|im_end|>'}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<|im_start|>assistant\\n'}}{%- endif -%}
`;

/** Both halves are 128 wide; the vision tower has most of the parameters. */
function configOf(tileSize: number): ModelConfig {
  return {
    vision: {
      hiddenWidth: 128,
      intermediateWidth: 768,
      layers: 5,
      heads: 4,
      patchSize: 14,
      epsilon: 1e-5,
      featureLayer: "normed",
    },
    decoder: {
      hiddenWidth: 128,
      intermediateWidth: 344,
      layers: 4,
      heads: 4,
      kvHeads: 4,
      headWidth: 32,
      epsilon: 1e-6,
      ropeTheta: 10_000,
      contextTokensMax: 2048,
      vocabularySize: VOCABULARY,
      endTokenIds: [],
      moe: undefined,
      tiedEmbedding: true,
    },
    mergeFactor: 2,
    mergeOrder: "v2",
    preprocess: {
      tileSize,
      minTiles: 1,
      maxTiles: 1,
      thumbnail: true,
      msac: false,
      mean: [0.485, 0.456, 0.406],
      deviation: [0.229, 0.224, 0.225],
    },
    template: "univl-chat",
  };
}

/** A model that knows nothing, for tiles of a size. The same every time. */
export async function newNano(tileSize: number): Promise<WholeModel> {
  const tokenizer = questionTokenizer(corpus(), VOCABULARY);
  const idOf = (token: string) =>
    tokenizer.addedTokens.find(({ content }) => content === token)!.id;
  const tokenIds = { end: idOf("<|im_end|>"), padding: idOf("<|endoftext|>") };
  const config = configOf(tileSize);
  const written = writeModelConfig(config, { tokenIds });
  const files = new Map([
    ["config.json", written.config],
    ["preprocessor_config.json", written.preprocessor],
    ["chat_template.jinja", CHAT_TEMPLATE],
    ...Object.entries(tokenizer.toFiles()),
  ]);
  return { config, tensors: await randomWeights(config, SEED), files };
}
