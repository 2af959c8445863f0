/** Text files that are there whole or not at all. */

/** Replaces the file at once, so that a reader never sees half of it. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const partial = `${path}.partial`;
  await Deno.writeTextFile(partial, text);
  await Deno.rename(partial, path);
}
