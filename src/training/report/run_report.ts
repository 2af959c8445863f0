/**
 * The report of a run as a page: how far it is, its curves, what AdaLRS decided, answers to read, the
 * recipe. Self-contained: no script, nothing from elsewhere, light and dark. The live page shows the
 * same body.
 */
import { join } from "node:path";
import type { TrainingRecipe } from "../recipes/recipe.ts";
import type { Completion, StepRecord } from "../run_log.ts";
import { escapeHtml } from "@/escape_html.ts";
import { numberText, panelSvg } from "./panel_svg.ts";
import { type Panel, panelsOf } from "./panels.ts";
import { reportStyle } from "./report_style.ts";

export const REPORT_FILE = "report.html";

/** Answers and decisions that the page shows: the latest. */
const COMPLETIONS_SHOWN = 12;
const DECISIONS_SHOWN = 30;

export interface ReportOptions {
  readonly recipe: TrainingRecipe;
  /** Name of the starting model. */
  readonly model: string;
  /** What an earlier run left in the log. */
  readonly records: readonly StepRecord[];
}

export type RunState = "running" | "stopped" | "done";

export class RunReport {
  readonly #recipe: TrainingRecipe;
  readonly #model: string;
  readonly #records: StepRecord[];
  /** The latest answers, newest first. */
  #completions: { readonly computed: number; readonly completion: Completion }[] = [];
  state: RunState = "running";

  constructor({ recipe, model, records }: ReportOptions) {
    this.#recipe = recipe;
    this.#model = model;
    this.#records = [];
    for (const record of records) this.add(record);
  }

  add(record: StepRecord): void {
    const { completions = [], ...figures } = record;
    this.#records.push(figures);
    const shown = completions.map((completion) => ({ computed: record.computed, completion }));
    this.#completions = [...shown, ...this.#completions].slice(0, COMPLETIONS_SHOWN);
  }

  /** What the page shows, without its frame. */
  body(): string {
    const panels = panelsOf(this.#records).map(panelHtml).join("");
    return [
      this.#head(),
      panels === ""
        ? `<p class="note">No step is done yet.</p>`
        : `<div class="panels">${panels}</div>`,
      this.#tasks(),
      this.#decisions(),
      this.#answers(),
      `<details><summary>Recipe</summary><pre>${
        escapeHtml(JSON.stringify(this.#recipe, null, 2))
      }</pre></details>`,
    ].join("");
  }

  /** The whole page. `script`: the address of what keeps a live page fresh. */
  html(script?: string): string {
    const title = escapeHtml(`${this.#recipe.name} · training`);
    return `<!doctype html><html lang="en"><head><meta charset="utf-8">` +
      `<meta name="viewport" content="width=device-width, initial-scale=1">` +
      `<meta name="color-scheme" content="light dark"><title>${title}</title>` +
      `<style>${reportStyle}</style>${script ? `<script defer src="${script}"></script>` : ""}` +
      `</head><body><main>${this.body()}</main></body></html>\n`;
  }

  /** Writes the page beside the log, whole or not at all. */
  async write(folder: string): Promise<void> {
    const path = join(folder, REPORT_FILE);
    await Deno.writeTextFile(`${path}.partial`, this.html());
    await Deno.rename(`${path}.partial`, path);
  }

  #head(): string {
    const { name, purpose, steps, data } = this.#recipe;
    const last = this.#records.at(-1);
    const step = last?.step ?? 0;
    const tokens = this.#records.reduce((sum, { rows }) => sum + rows, 0);
    const spent = this.#records.reduce((sum, { seconds }) => sum + seconds, 0);
    const figures: [string, string | undefined][] = [
      ["Step", `${step} of ${steps}`],
      ["Loss", last && numberText(last.loss)],
      ["Reward", last?.reward === undefined ? undefined : numberText(last.reward)],
      ["Right", this.#latestAccuracy()],
      ["Rate", last && numberText(last.rate)],
      ["Token rows", tokens === 0 ? undefined : numberText(tokens)],
      ["Computed for", spent === 0 ? undefined : durationText(spent)],
      ["Left", this.state === "running" && last ? durationText(last.secondsLeft) : undefined],
    ];
    const cells = figures.flatMap(([label, value]) =>
      value === undefined ? [] : [`<div><dt>${label}</dt><dd>${escapeHtml(value)}</dd></div>`]
    );
    const share = (100 * Math.min(1, step / steps)).toFixed(1);
    return `<header><h1>${
      escapeHtml(name)
    } <span class="state ${this.state}">${this.state}</span>` +
      `</h1><p class="note">${
        escapeHtml(
          [purpose, `from ${this.#model}`, `seed ${data.seed}`].filter(Boolean).join(" · "),
        )
      }</p><div class="progress" role="progressbar" aria-valuenow="${share}">` +
      `<span style="width:${share}%"></span></div><dl>${cells.join("")}</dl></header>`;
  }

  #latestAccuracy(): string | undefined {
    const last = this.#records.findLast(({ accuracy }) => accuracy !== undefined);
    return last && `${Math.round(100 * last.accuracy!)} %`;
  }

  /** Greedy accuracy by task over the latest measurements. */
  #tasks(): string {
    const counts = new Map<string, [number, number]>();
    const measured = this.#records.filter(({ accuracyByTask }) => accuracyByTask).slice(-20);
    for (const { accuracyByTask = {} } of measured) {
      for (const [task, [right, all]] of Object.entries(accuracyByTask)) {
        const count = counts.get(task) ?? [0, 0];
        counts.set(task, [count[0] + right, count[1] + all]);
      }
    }
    if (counts.size === 0) return "";
    const rows = [...counts].sort(([a], [b]) => a < b ? -1 : 1).map(([task, [right, all]]) => {
      const percent = 100 * right / Math.max(1, all);
      return `<tr><th>${escapeHtml(task)}</th><td><span class="bar"><span style="width:${
        percent.toFixed(0)
      }%"></span></span></td><td class="number">${percent.toFixed(0)} %</td>` +
        `<td class="number quiet">${right} of ${all}</td></tr>`;
    });
    return section(
      "Tasks",
      "right answers in the latest measurements",
      `<table>${rows.join("")}</table>`,
    );
  }

  #decisions(): string {
    const rows = this.#records.flatMap(({ computed, decision }) => {
      if (!decision) return [];
      const { kind, from, to, velocity, error, velocityBefore, errorBefore } = decision;
      const speed = (value?: number | null, error?: number | null) =>
        typeof value === "number" ? `${numberText(value)} ± ${numberText(error ?? 0)}` : "–";
      return [
        `<tr><td class="number">${computed}</td><td class="${kind}">${kind}</td>` +
        `<td class="number">${numberText(from)} → ${numberText(to)}</td>` +
        `<td class="number">${speed(velocityBefore, errorBefore)}</td>` +
        `<td class="number">${speed(velocity, error)}</td></tr>`,
      ];
    });
    if (rows.length === 0) return "";
    const head = ["Step", "Decision", "Factor", "Velocity before", "Velocity"];
    const table = `<table><tr>${head.map((cell) => `<th>${cell}</th>`).join("")}</tr>${
      rows.slice(-DECISIONS_SHOWN).join("")
    }</table>`;
    return section("AdaLRS", "velocity: fall of the loss per step, with its error", table);
  }

  #answers(): string {
    if (this.#completions.length === 0) return "";
    const items = this.#completions.map(({ computed, completion }) =>
      answerHtml(completion, computed)
    );
    return section("Answers", "the latest", `<div class="answers">${items.join("")}</div>`);
  }
}

function section(title: string, note: string, content: string): string {
  return `<section><h2>${title} <small>${note}</small></h2><div class="scroll">${content}</div></section>`;
}

function panelHtml(panel: Panel): string {
  const { title, note, curves } = panel;
  const latest = curves.map(({ name, points }, i) => {
    const value = numberText(points.at(-1)![1]);
    const label = curves.length > 1 ? `${escapeHtml(name)} ` : "";
    return `<span class="key tone${i % 4}">${label}<b>${value}</b></span>`;
  });
  return `<figure><figcaption><b>${title}</b> <small>${note}</small>` +
    `<span class="keys">${latest.join("")}</span></figcaption>${panelSvg(panel)}</figure>`;
}

function answerHtml(
  { task, question, answer, expected, reward, right }: Completion,
  computed: number,
): string {
  const isGood = right ?? (typeof reward === "number" && reward > 0.5);
  const verdict = reward === undefined
    ? (isGood ? "right" : "wrong")
    : reward === null
    ? "not judged"
    : `reward ${numberText(reward)}`;
  const wanted = expected !== undefined && expected !== answer
    ? `<p class="wanted">${escapeHtml(expected)}</p>`
    : "";
  return `<article><p class="note">${escapeHtml(task)} · step ${computed} ` +
    `<span class="${isGood ? "good" : "bad"}">${verdict}</span></p>` +
    `<p class="question">${escapeHtml(question)}</p>` +
    `<p class="answer">${escapeHtml(answer)}</p>${wanted}</article>`;
}

function durationText(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
