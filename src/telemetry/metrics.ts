/**
 * Counters, gauges and histograms in memory, rendered as Prometheus text. One instance is passed
 * around; it starts nothing and sends nothing.
 */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";
import {
  type MetricName,
  type MetricNameOf,
  type MetricSpec,
  metricSpecs,
} from "./metric_names.ts";

export type Labels = Readonly<Record<string, string>>;

interface Series {
  /** Rendered labels without braces, e.g. `route="/livez",status="200"`. */
  readonly labels: string;
  value: number;
  /** Observations per bucket (not cumulative); the last one is +Inf. Empty unless a histogram. */
  readonly buckets: number[];
  count: number;
}

/** Label values beyond `metricSeriesMax` are counted under this one. */
const OVERFLOW = "other";

export class Metrics {
  readonly #series = new Map<MetricName, Map<string, Series>>();
  readonly #collectors = new Set<() => void>();

  /** Adds `amount` (>= 0) to a counter. */
  count(name: MetricNameOf<"counter">, amount = 1, labels: Labels = {}): void {
    assert(amount >= 0, `counter ${name} cannot fall by ${amount}`);
    this.#find(name, labels).value += amount;
  }

  /** Sets a gauge. */
  set(name: MetricNameOf<"gauge">, value: number, labels: Labels = {}): void {
    this.#find(name, labels).value = value;
  }

  /** Adds one observation to a histogram. */
  observe(name: MetricNameOf<"histogram">, value: number, labels: Labels = {}): void {
    observeIn(this.#find(name, labels), specOf(name).buckets ?? [], value);
  }

  /** `count` with these labels, for hot paths: they are written once. */
  counter(name: MetricNameOf<"counter">, labels: Labels = {}): (amount: number) => void {
    const series = this.#find(name, labels);
    return (amount) => {
      assert(amount >= 0, "a counter cannot fall");
      series.value += amount;
    };
  }

  /** `observe` with these labels, for hot paths. */
  histogram(name: MetricNameOf<"histogram">, labels: Labels = {}): (value: number) => void {
    const series = this.#find(name, labels);
    const bounds = specOf(name).buckets ?? [];
    return (value) => observeIn(series, bounds, value);
  }

  /** Calls `collector` before each rendering, to set what is only worth computing then. */
  onRender(collector: () => void): () => void {
    this.#collectors.add(collector);
    return () => void this.#collectors.delete(collector);
  }

  /** Current value of a counter or gauge (0 before the first use); the sum of a histogram. */
  value(name: MetricName, labels: Labels = {}): number {
    return this.#series.get(name)?.get(renderLabels(name, labels))?.value ?? 0;
  }

  /** Prometheus text exposition, format version 0.0.4. Metrics without labels appear from the start. */
  render(): string {
    for (const collect of this.#collectors) collect();
    const lines: string[] = [];
    for (const name of Object.keys(metricSpecs) as MetricName[]) {
      const spec = specOf(name);
      if (!spec.labels && spec.type !== "histogram") this.#find(name, {});
      lines.push(`# HELP ${name} ${spec.help}`, `# TYPE ${name} ${spec.type}`);
      for (const series of this.#series.get(name)?.values() ?? []) {
        lines.push(...renderSeries(name, spec, series));
      }
    }
    return lines.join("\n") + "\n";
  }

  #find(name: MetricName, labels: Labels): Series {
    let all = this.#series.get(name);
    if (all === undefined) this.#series.set(name, all = new Map());
    let key = renderLabels(name, labels);
    if (!all.has(key) && all.size >= limits.metricSeriesMax) {
      key = renderLabels(
        name,
        Object.fromEntries(Object.keys(labels).map((label) => [label, OVERFLOW])),
      );
    }
    let series = all.get(key);
    if (series === undefined) {
      const bounds = specOf(name).buckets;
      const buckets = bounds ? new Array<number>(bounds.length + 1).fill(0) : [];
      all.set(key, series = { labels: key, value: 0, buckets, count: 0 });
    }
    return series;
  }
}

function observeIn(series: Series, bounds: readonly number[], value: number): void {
  const index = bounds.findIndex((bound) => value <= bound);
  series.buckets[index < 0 ? bounds.length : index]! += 1;
  series.value += value;
  series.count += 1;
}

function specOf(name: MetricName): MetricSpec {
  return metricSpecs[name];
}

function renderLabels(name: MetricName, labels: Labels): string {
  const names = specOf(name).labels ?? [];
  const given = Object.keys(labels);
  assert(
    given.length === names.length && names.every((label) => label in labels),
    `metric ${name} has labels [${names}], got [${given}]`,
  );
  return names.map((label) => `${label}="${escapeLabel(labels[label]!)}"`).join(",");
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function renderSeries(name: string, spec: MetricSpec, series: Series): string[] {
  const braces = (labels: string) => labels === "" ? "" : `{${labels}}`;
  if (spec.type !== "histogram") return [`${name}${braces(series.labels)} ${series.value}`];
  const prefix = series.labels === "" ? "" : `${series.labels},`;
  const lines: string[] = [];
  let total = 0;
  for (const [index, count] of series.buckets.entries()) {
    total += count;
    lines.push(`${name}_bucket{${prefix}le="${spec.buckets?.[index] ?? "+Inf"}"} ${total}`);
  }
  lines.push(`${name}_sum${braces(series.labels)} ${series.value}`);
  lines.push(`${name}_count${braces(series.labels)} ${series.count}`);
  return lines;
}
