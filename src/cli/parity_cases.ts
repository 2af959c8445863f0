/** Golden cases outside the model: tokenizer, prompts, tiling, resize and picture decoding. */
import { dirname, join } from "node:path";
import type { Codec } from "@/media/codec.ts";
import { resizeBicubic } from "@/media/resize.ts";
import { chooseGrid, msacGrid } from "@/media/tiling.ts";
import { loadTokenizer } from "@/tokenizer/tokenizer_folder.ts";
import { type Fixture, readGoldens, readJson } from "./parity_fixtures.ts";
import { ParityCheck, type ParityRow } from "./parity_report.ts";

interface TokenizerCases {
  readonly encode: readonly EncodeCase[];
  readonly decode: readonly DecodeCase[];
}

interface DecodeCase {
  readonly ids: readonly number[];
  readonly decoded: string;
  readonly decoded_skip_special: string;
}

interface EncodeCase extends DecodeCase {
  readonly text: string;
}

/** Every encode and decode case, exact. */
export async function tokenizerParity(fixture: Fixture): Promise<ParityRow[]> {
  const tokenizer = await loadTokenizer(dirname(fixture.path));
  const cases = await readJson<TokenizerCases>(fixture.path);
  const encode = new ParityCheck(fixture.name, "encode");
  const decode = new ParityCheck(fixture.name, "decode");
  for (const item of cases.encode) {
    const ids = tokenizer.encode(item.text);
    encode.record(JSON.stringify(item.text), ids.join() === item.ids.join(), `got ${ids}`);
  }
  for (const item of [...cases.encode, ...cases.decode]) {
    const label = `ids ${item.ids}`;
    decode.record(label, tokenizer.decode(item.ids) === item.decoded);
    const skipped = tokenizer.decode(item.ids, { skipSpecialTokens: true });
    decode.record(`${label} without specials`, skipped === item.decoded_skip_special);
  }
  return [encode.row(), decode.row()];
}

interface TilingCases {
  readonly image_size: number;
  readonly rows: readonly [
    width: number,
    height: number,
    maxTiles: number,
    msac: boolean,
    gridA: [number, number],
    gridB: [number, number] | null,
    total: number,
  ][];
}

/** Grid choice with and without MSAC, exact. */
export async function tilingParity(fixture: Fixture): Promise<ParityRow[]> {
  const cases = await readJson<TilingCases>(fixture.path);
  const check = new ParityCheck(fixture.name, "grids");
  for (const [width, height, maxTiles, msac, gridA, gridB, total] of cases.rows) {
    const options = { tileSize: cases.image_size, minTiles: 1, maxTiles };
    const first = chooseGrid(width, height, options);
    const second = msac ? msacGrid(width, height, first, options) : undefined;
    const tiles = (grid: { columns: number; rows: number }) => grid.columns * grid.rows;
    const thumbnail = tiles(first) > 1 ? 1 : 0;
    const count = tiles(first) + thumbnail + (second ? tiles(second) : 0);
    const ok = first.columns === gridA[0] && first.rows === gridA[1] && count === total &&
      (second?.columns ?? null) === (gridB?.[0] ?? null) &&
      (second?.rows ?? null) === (gridB?.[1] ?? null);
    check.record(
      `${width}x${height} max ${maxTiles}`,
      ok,
      JSON.stringify({ first, second, count }),
    );
  }
  return [check.row()];
}

/** Bicubic resize, bit for bit. */
export async function resizeParity(fixture: Fixture): Promise<ParityRow[]> {
  const goldens = await readGoldens(dirname(fixture.path), "resize_cases.safetensors");
  const check = new ParityCheck(fixture.name, "bicubic");
  for (const [name, input] of goldens) {
    if (!name.startsWith("in_")) continue;
    const expected = goldens.get(`out_${name.slice(3)}`)!;
    const [height, width] = input.shape as [number, number];
    const [outHeight, outWidth] = expected.shape as [number, number];
    const image = { width, height, data: Uint8Array.from(input.values) };
    const out = resizeBicubic(image, outWidth, outHeight);
    check.compare(name, out.data, expected.values);
  }
  return [check.row()];
}

/** Allowed difference of lossy files: within 3 levels, or a mean below 1.5 for subsampled chroma. */
const LOSSY_LEVELS = 3;
const LOSSY_MEAN = 1.5;

/** Decoded pixels of every file: exact for lossless formats. */
export async function decodeParity(fixture: Fixture, codec: Codec): Promise<ParityRow[]> {
  const folder = dirname(fixture.path);
  const goldens = await readGoldens(folder, "decoded.safetensors");
  const exact = new ParityCheck(fixture.name, "lossless files");
  const lossy = new ParityCheck(fixture.name, "lossy files", LOSSY_LEVELS);
  for (const [name, golden] of goldens) {
    const bytes = await Deno.readFile(join(folder, name));
    const image = await codec.decode(bytes, { applyOrientation: false });
    const [height, width] = golden.shape as [number, number];
    const sized = image.width === width && image.height === height;
    // Sixteen-bit grey has no agreed scaling: only its size is compared.
    if (!sized || name.startsWith("gray16")) exact.record(name, sized, "size differs");
    else if (/\.jpe?g$/.test(name) || name === "q80.webp") {
      recordLossy(lossy, { name, actual: image.data, expected: golden.values });
    } else exact.compare(name, image.data, golden.values);
  }
  return [exact.row(), lossy.row()];
}

function recordLossy(
  check: ParityCheck,
  pair: { name: string; actual: Uint8Array; expected: ArrayLike<number> },
): void {
  let [worst, sum] = [0, 0];
  for (let i = 0; i < pair.actual.length; i++) {
    const error = Math.abs(pair.actual[i]! - pair.expected[i]!);
    worst = Math.max(worst, error);
    sum += error;
  }
  const mean = sum / pair.actual.length;
  check.raiseWorst(worst);
  const subsampled = /420|422|progressive/.test(pair.name);
  const ok = worst <= LOSSY_LEVELS || (subsampled && mean < LOSSY_MEAN);
  check.record(pair.name, ok, `worst ${worst}, mean ${mean.toFixed(2)}`);
}
