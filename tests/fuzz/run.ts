/**
 * The fuzzing command: `deno task fuzz [--seed N] [--count N]`. A failure prints its seed, which
 * reproduces it.
 */
import { freshSeed } from "@/random.ts";
import { fuzzConnections, fuzzHandshakes } from "./connection_fuzzer.ts";
import { openCorpus } from "./frame_corpus.ts";
import { fuzzDecoders } from "./frame_fuzzer.ts";

const COUNT_DEFAULT = 1_000_000;

function option(name: string, fallback: number): number {
  const place = Deno.args.indexOf(`--${name}`);
  const value = place < 0 ? fallback : Number(Deno.args[place + 1]);
  if (!Number.isSafeInteger(value) || value < 0) throw new TypeError(`--${name} takes a number`);
  return value;
}

const seed = option("seed", freshSeed());
const count = option("count", COUNT_DEFAULT);
const print = (line: string) => Deno.stdout.write(new TextEncoder().encode(`${line}\n`));
await print(`seed ${seed}`);
const decoders = fuzzDecoders({ seed, count, corpus: openCorpus() });
await print(`${count} frames to decoders: ${JSON.stringify(decoders)}`);
// A connection is opened anew after every violation, which costs ten times as much.
const connectionCount = Math.ceil(count / 10);
const connections = await fuzzConnections({ seed, count: connectionCount });
await print(`${connectionCount} frames to open connections: ${JSON.stringify(connections)}`);
const handshakeCount = Math.ceil(count / 20);
const refused = await fuzzHandshakes({ seed, count: handshakeCount });
await print(`${handshakeCount} frames to handshakes: ${refused} refused, none accepted`);
