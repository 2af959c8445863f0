/** Where this program keeps what it can find out again. */
import { join } from "node:path";

export function cacheFolder(): string {
  const cache = Deno.env.get("XDG_CACHE_HOME") ?? join(Deno.env.get("HOME") ?? ".", ".cache");
  return join(cache, "flotilla");
}
