/** Our names as the API spells them: `p95Ms` becomes `p95_ms`, in types and in values. */

type SnakeKey<K> = K extends `${infer First}${infer Rest}`
  ? `${First extends Lowercase<First> ? First : `_${Lowercase<First>}`}${SnakeKey<Rest>}`
  : K;

/** Keys of plain data in snake case; what may be missing comes as null. */
export type SnakeCase<T> = T extends readonly (infer Item)[] ? readonly SnakeCase<Item>[]
  : T extends object ? { readonly [K in keyof T as SnakeKey<K>]: SnakeCase<T[K]> }
  : T extends undefined ? null
  : T;

export function snakeCase<T>(value: T): SnakeCase<T> {
  return convert(value) as SnakeCase<T>;
}

function convert(value: unknown): unknown {
  if (value === undefined) return null;
  if (Array.isArray(value)) return value.map(convert);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [snakeKey(key), convert(item)]),
  );
}

function snakeKey(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
