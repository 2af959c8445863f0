/** What both halves of reinforcement stand on: the filter before the stage, and its steps. */
import type { Clock } from "@/clock.ts";
import type { ModelText } from "./model_text.ts";
import type { ReinforcementRecipe } from "./recipes/recipe.ts";
import type { GroupOptions } from "./rollouts/answer_groups.ts";
import type { AnswerJudge } from "./rollouts/answer_judge.ts";
import type { Answerer, AnswerStyle } from "./rollouts/answerer.ts";
import type { QuestionMaking } from "./rollouts/question_source.ts";
import { StageSamples } from "./stage_samples.ts";
import type { Trainer } from "./trainer.ts";

export interface ReinforcementOptions {
  readonly recipe: ReinforcementRecipe;
  readonly trainer: Trainer;
  /** Answers with the trainer's parameters. */
  readonly answerer: Pick<Answerer, "answer">;
  readonly text: Pick<ModelText, "tokenizer" | "encoder">;
  readonly judge: AnswerJudge;
  /** Whether the model has experts: decides `auto`. */
  readonly isSparse: boolean;
  readonly clock: Clock;
}

export function questionMaking({ recipe, text }: ReinforcementOptions): QuestionMaking {
  const { data } = recipe;
  return { encoder: text.encoder, samples: new StageSamples(data), seed: data.seed };
}

export function answerStyle(recipe: ReinforcementRecipe, answersPerQuestion: number): AnswerStyle {
  const { temperature, answerTokensMax: tokensMax } = recipe;
  return { answersPerQuestion, temperature, tokensMax };
}

export function groupOptions(
  { recipe, answerer, text, judge }: ReinforcementOptions,
): GroupOptions {
  return {
    answerer,
    tokenizer: text.tokenizer,
    judge,
    weights: recipe.reward,
    style: answerStyle(recipe, recipe.answersPerPrompt),
  };
}
