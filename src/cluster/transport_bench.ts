/**
 * Round trips of every transport against a bare TCP socket, with the peer in a second process on
 * loopback: `deno run --allow-all src/cluster/transport_bench.ts [ROUNDS]`. Prints medians in
 * microseconds and their ratio to the bare socket in the same round. It measures transport alone.
 */
import net from "node:net";
import { systemClock } from "@/clock.ts";
import { identityOf, SECRET_TEXT } from "./_peers.ts";
import { ClusterSecret } from "./cluster_secret.ts";
import type { Connection } from "./connection.ts";
import { createFrame, HEADER_BYTES } from "./frame.ts";
import type { TlsFiles } from "./socket_stream.ts";
import { ClusterTransport, type TransportOptions } from "./transport.ts";

const SIZES = [64, 4096, 49_152, 65_536];
const CALLS = 200;
const secret = ClusterSecret.fromText(SECRET_TEXT);

function pem(name: string): TlsFiles {
  const read = (file: string) =>
    Deno.readTextFileSync(new URL(`../../tests/fixtures/cluster/${file}`, import.meta.url));
  return {
    certificate: read(`${name}.pem`),
    key: read(`${name}.key`),
    authority: read("authority.pem"),
  };
}

interface Kind {
  readonly name: string;
  address(folder: string): string;
  options(side: "client" | "server"): Partial<TransportOptions>;
}

const kinds: readonly Kind[] = [
  { name: "tcp", address: () => "127.0.0.1:0", options: () => ({}) },
  { name: "tcp + secret", address: () => "127.0.0.1:0", options: () => ({ secret }) },
  { name: "unix", address: (folder) => `unix:${folder}/socket`, options: () => ({}) },
  { name: "mutual tls", address: () => "127.0.0.1:0", options: (side) => ({ tls: pem(side) }) },
  { name: "websocket", address: () => "ws://127.0.0.1:0/", options: () => ({}) },
];

function transportOf(kind: Kind, side: "client" | "server"): ClusterTransport {
  const identity = () => identityOf(side === "client" ? "front" : "shard");
  return new ClusterTransport({ clock: systemClock, identity, ...kind.options(side) });
}

/** Echoes on all transports and a bare socket; prints the addresses as one line of JSON. */
async function serve(folder: string): Promise<void> {
  const addresses: string[] = [];
  for (const kind of kinds) {
    const accept = (connection: Connection) =>
      connection.attach({
        frame: ({ header, body }) => {
          const reply = createFrame("result", body.length, { callId: header.callId });
          reply.body.set(body);
          connection.send(reply);
        },
        closed: () => {},
      });
    const listener = await transportOf(kind, "server").listen(kind.address(folder), { accept });
    addresses.push(listener.address);
  }
  const bare = net.createServer((socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Uint8Array) => socket.write(new Uint8Array(chunk)));
  });
  bare.listen(0, "127.0.0.1", () => {
    const { port } = bare.address() as net.AddressInfo;
    const line = JSON.stringify({ addresses, port }) + "\n";
    void Deno.stdout.write(new TextEncoder().encode(line));
  });
}

type RoundTrip = (bytes: number) => Promise<void>;

function bareRoundTrip(port: number): Promise<{ call: RoundTrip; close: () => void }> {
  const socket = net.connect({ host: "127.0.0.1", port });
  socket.setNoDelay(true);
  let [wanted, got] = [0, 0];
  let done = () => {};
  socket.on("data", (chunk: Uint8Array) => {
    got += chunk.length;
    if (got === wanted) done();
  });
  const call = (bytes: number) => {
    [wanted, got] = [bytes, 0];
    const { promise, resolve } = Promise.withResolvers<void>();
    done = resolve;
    socket.write(new Uint8Array(bytes));
    return promise;
  };
  const opened = { call, close: () => void socket.destroy() };
  return new Promise((resolve) => socket.once("connect", () => resolve(opened)));
}

async function frameRoundTrip(kind: Kind, address: string) {
  const connection = await transportOf(kind, "client").dial(address);
  let done = () => {};
  connection.attach({ frame: () => done(), closed: () => {} });
  const call = (bytes: number) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    done = resolve;
    connection.send(createFrame("call", bytes - HEADER_BYTES));
    return promise;
  };
  return { call, close: () => connection.close() };
}

/** Median of a call's time in microseconds. */
async function median(call: RoundTrip, bytes: number): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < CALLS; i++) {
    const startMs = performance.now();
    await call(bytes);
    times.push((performance.now() - startMs) * 1000);
  }
  return times.sort((left, right) => left - right)[CALLS >> 1]!;
}

async function measure(rounds: number): Promise<void> {
  const folder = await Deno.makeTempDir();
  const server = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", import.meta.url, "serve", folder],
    stdout: "piped",
  }).spawn();
  const { value } = await server.stdout.pipeThrough(new TextDecoderStream()).getReader().read();
  const { addresses, port } = JSON.parse(value!) as { addresses: string[]; port: number };
  const bare = await bareRoundTrip(port);
  const calls = await Promise.all(kinds.map((kind, i) => frameRoundTrip(kind, addresses[i]!)));
  const paths: [string, { call: RoundTrip; close: () => void }][] = [["bare tcp", bare]];
  kinds.forEach((kind, i) => paths.push([kind.name, calls[i]!]));
  const times = new Map<string, { micros: number; ratio: number }[]>();
  for (let round = 0; round <= rounds; round++) {
    for (const bytes of SIZES) {
      let base = 0;
      for (const [name, { call }] of paths) {
        const micros = await median(call, bytes);
        if (name === "bare tcp") base = micros;
        if (round === 0) continue; // warming up
        const key = `${name.padEnd(14)} ${String(bytes).padStart(6)} B`;
        times.set(key, [...times.get(key) ?? [], { micros, ratio: micros / base }]);
      }
    }
  }
  for (const [key, values] of times) {
    const middle = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1]!;
    const micros = middle(values.map((value) => value.micros)).toFixed(0).padStart(7);
    const ratio = middle(values.map((value) => value.ratio)).toFixed(2);
    await Deno.stdout.write(new TextEncoder().encode(`${key} ${micros} µs  x ${ratio}\n`));
  }
  paths.forEach(([, path]) => path.close());
  server.kill();
  await server.status;
  await Deno.remove(folder, { recursive: true });
}

if (Deno.args[0] === "serve") await serve(Deno.args[1]!);
else if (import.meta.main) await measure(Number(Deno.args[0] ?? 5));
