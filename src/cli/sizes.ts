/** Sizes of memory as people write them. */

const UNITS: Readonly<Record<string, number>> = {
  MB: 1e6,
  GB: 1e9,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
};

/** Bytes of e.g. "8GiB" or "1.5GB"; undefined for anything else. */
export function parseSize(text: string): number | undefined {
  const [, size, unit] = /^(\d+(?:\.\d+)?)(MB|GB|MiB|GiB)$/i.exec(text) ?? [];
  return size && unit ? Math.floor(Number(size) * UNITS[unit.toUpperCase()]!) : undefined;
}
