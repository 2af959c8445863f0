/**
 * Unicode NFC in linear time. `String.prototype.normalize` sorts combining marks by insertion, so a
 * megabyte of marks in descending order would block the process for minutes; long runs of marks
 * are brought into canonical order here first. Does no other text clean-up.
 */

/** Runs up to this length are cheap enough for the built-in insertion sort. */
const LONG_MARK_RUN = /\p{M}{65,}/gu;

/** Marks with the lowest (1) and the highest (240) canonical combining class. */
const LOWEST_CLASS_MARK = "\u0334";
const HIGHEST_CLASS_MARK = "\u0345";

/** Equals `text.normalize("NFC")`, but takes time linear in the text for any input. */
export function normalizeNfc(text: string): string {
  return text.replace(LONG_MARK_RUN, orderMarks).normalize("NFC");
}

/**
 * Canonical ordering (Unicode Standard, D109): decomposes every mark and sorts each stretch of
 * non-starters stably by combining class. The result is canonically equivalent to `run`.
 */
function orderMarks(run: string): string {
  const decompositions = new Map<string, string[]>();
  const decomposed: string[] = [];
  for (const mark of run) {
    let parts = decompositions.get(mark);
    if (parts === undefined) decompositions.set(mark, parts = [...mark.normalize("NFD")]);
    decomposed.push(...parts);
  }
  const classes = combiningClasses(new Set(decomposed));
  const ordered: string[] = [];
  const buckets: string[][] = Array.from({ length: classes.size + 1 }, () => []);
  const emit = () => {
    for (const bucket of buckets) {
      for (const mark of bucket) ordered.push(mark);
      bucket.length = 0;
    }
  };
  let pending = 0;
  for (const mark of decomposed) {
    const combiningClass = classes.get(mark)!;
    if (combiningClass > 0) {
      buckets[combiningClass]!.push(mark);
      pending++;
      continue;
    }
    if (pending > 0) emit();
    pending = 0;
    ordered.push(mark);
  }
  emit();
  return ordered.join("");
}

/**
 * Classes that order like the canonical combining classes, dense from 1; starters have class 0.
 * JavaScript does not expose the class itself, but two marks swap under NFD when theirs descend.
 */
function combiningClasses(marks: ReadonlySet<string>): Map<string, number> {
  const classes = new Map<string, number>();
  const nonStarters: string[] = [];
  for (const mark of marks) {
    const isNonStarter = descends(mark, LOWEST_CLASS_MARK) || descends(HIGHEST_CLASS_MARK, mark);
    if (isNonStarter) nonStarters.push(mark);
    else classes.set(mark, 0);
  }
  nonStarters.sort((a, b) => descends(a, b) ? 1 : descends(b, a) ? -1 : 0);
  let combiningClass = 0;
  let previous: string | undefined;
  for (const mark of nonStarters) {
    if (previous === undefined || descends(mark, previous)) combiningClass++;
    classes.set(mark, combiningClass);
    previous = mark;
  }
  return classes;
}

function descends(first: string, second: string): boolean {
  return first !== second && (first + second).normalize("NFD") === second + first;
}
