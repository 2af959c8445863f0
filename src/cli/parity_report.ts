/** Results of parity checks: one row per file and check, printed as a table. */

export interface ParityRow {
  /** Fixture file or folder, relative to the fixtures root. */
  readonly file: string;
  readonly check: string;
  readonly cases: number;
  readonly failures: number;
  /** Largest error seen, in the unit of `tolerance`. */
  readonly worst: number;
  readonly tolerance: number;
  /** First failure, or why the row was skipped. */
  readonly note: string;
  readonly skipped: boolean;
}

/** Collects the cases of one row. */
export class ParityCheck {
  readonly #file: string;
  readonly #check: string;
  readonly #tolerance: number;
  #cases = 0;
  #failures = 0;
  #worst = 0;
  #note = "";

  constructor(file: string, check: string, tolerance = 0) {
    this.#file = file;
    this.#check = check;
    this.#tolerance = tolerance;
  }

  /** Compares numbers elementwise: |actual - expected| <= absolute + relative * |expected|. */
  compare(
    label: string,
    actual: ArrayLike<number>,
    expected: ArrayLike<number>,
    relative = 0,
  ): void {
    if (actual.length !== expected.length) {
      this.record(label, false, `length ${actual.length}, expected ${expected.length}`);
      return;
    }
    let worst = 0;
    for (let i = 0; i < actual.length; i++) {
      const error = Math.abs(actual[i]! - expected[i]!) - relative * Math.abs(expected[i]!);
      // A NaN is a failure, not a zero.
      if (!(error <= worst)) worst = Number.isNaN(error) ? Infinity : error;
    }
    this.#worst = Math.max(this.#worst, worst);
    this.record(label, worst <= this.#tolerance, `error ${worst.toExponential(2)}`);
  }

  /** Raises the shown worst error of a check whose cases are judged by `record`. */
  raiseWorst(value: number): void {
    this.#worst = Math.max(this.#worst, value);
  }

  record(label: string, ok: boolean, problem = "differs"): void {
    this.#cases++;
    if (ok) return;
    if (this.#failures++ === 0) this.#note = `${label}: ${problem}`;
  }

  row(): ParityRow {
    return {
      file: this.#file,
      check: this.#check,
      cases: this.#cases,
      failures: this.#failures,
      worst: this.#worst,
      tolerance: this.#tolerance,
      note: this.#note,
      skipped: false,
    };
  }
}

export function skippedRow(file: string, check: string, note: string): ParityRow {
  return { file, check, cases: 0, failures: 0, worst: 0, tolerance: 0, note, skipped: true };
}

/** A row fails when a case failed, or when it claims to have checked nothing. */
export function failed(row: ParityRow): boolean {
  return !row.skipped && (row.failures > 0 || row.cases === 0);
}

function verdict(row: ParityRow): string {
  return row.skipped ? "skip" : failed(row) ? "FAIL" : "ok";
}

/** Renders rows as an aligned table. */
export function parityTable(rows: readonly ParityRow[]): string {
  const cells = rows.map((row) => [
    verdict(row),
    row.file,
    row.check,
    row.skipped ? "-" : `${row.cases - row.failures}/${row.cases}`,
    row.skipped ? "-" : row.worst === 0 ? "0" : row.worst.toExponential(1),
    row.skipped || row.tolerance === 0 ? "-" : row.tolerance.toExponential(0),
    row.cases === 0 && !row.skipped ? "no case was found" : row.note,
  ]);
  const header = ["", "file", "check", "cases", "worst", "allowed", "note"];
  const widths = header.map((title, i) =>
    Math.max(title.length, ...cells.map((row) => row[i]!.length))
  );
  return [header, ...cells]
    .map((row) => row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd())
    .join("\n");
}
