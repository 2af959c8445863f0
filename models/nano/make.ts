/** Makes nano from nothing, or from a model that is there: `deno task nano --help`. */
import { makeNano } from "@/cli/make_nano.ts";

await makeNano(Deno.args);
