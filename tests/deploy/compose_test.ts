/**
 * The cluster of compose.yaml, without containers: every command with the flags and the permissions
 * that its image gives it, only hosts, ports and folders are those of the test.
 */
import assert from "node:assert/strict";
import { parse } from "yaml";
import { natsProbe, NatsServer } from "../nats_server.ts";
import { eventually } from "../patience.ts";
import { fixtureFolder, root, startDeno } from "../server/server_process.ts";
import { optionalTest } from "../skip.ts";
import { images } from "./images.ts";

const ADDRESS = /(?:waits on |http:\/\/)(127\.0\.0\.1:\d+)/;

/** Where the runtime of this test has its packages: images have theirs. */
async function cacheFolder(): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  return JSON.parse(new TextDecoder().decode(stdout)).denoDir;
}

optionalTest(
  { name: "the commands of compose.yaml make a cluster", needs: [natsProbe] },
  async () => {
    await using stack = new AsyncDisposableStack();
    const folder = await Deno.makeTempDir();
    stack.defer(() => Deno.remove(folder, { recursive: true }));
    await Deno.writeTextFile(`${folder}/cluster.secret`, "0123456789abcdef".repeat(4));
    await Deno.writeTextFile(`${folder}/api.keys`, "a-key\n");
    const nats = stack.use(await NatsServer.start());
    const here = (word: string) =>
      word.replace("nats:4222", nats.address).replace("/run/secrets", folder)
        .replace("/models/model", fixtureFolder("moe")).replace(/\$\{QUANT:-\w+\}/, "none")
        .replace("0.0.0.0:7070", "127.0.0.1:0").replace(/^0\.0\.0\.0$/, "127.0.0.1")
        .replace(/^8080$/, "0").replace("/var/cache/flotilla", `${folder}/flotilla`);
    const { services } = parse(await Deno.readTextFile(`${root}deploy/compose.yaml`), {
      merge: true,
    });
    const built = await images();
    const denoDir = await cacheFolder();
    const start = async (name: string) => {
      const { image, command } = services[name];
      const words = [...built.get(image)!.words, ...command].map(here);
      // One thread, and names that differ, as hosts do there.
      const args = [...words, "--threads=1", `--name=${name}`];
      const started = await startDeno(args, ADDRESS, { XDG_CACHE_HOME: folder, DENO_DIR: denoDir });
      stack.defer(async () => {
        started.child.kill("SIGKILL");
        await started.child.status;
        await started.output;
      });
      return started.address;
    };
    for (const name of ["shard-1", "shard-2", "shard-3"]) await start(name);
    const front = `http://${await start("front")}`;
    const headers = { authorization: "Bearer a-key", "content-type": "application/json" };
    const status = async () => await (await fetch(`${front}/cluster/status`, { headers })).json();
    await eventually("all experts have two owners", async () => {
      const { epoch, under_replicated: few } = await status();
      return epoch > 0 && few === 0;
    });
    const { nodes, problem } = await status();
    assert.deepEqual(nodes.map(({ id }: { id: string }) => id), ["shard-1", "shard-2", "shard-3"]);
    assert.equal(problem, null);
    const answer = await fetch(`${front}/v1/completions`, {
      method: "POST",
      headers,
      body: JSON.stringify({ prompt: "one two", max_tokens: 4 }),
    });
    assert.equal(answer.status, 200, await answer.text());
    assert.ok((await status()).calls.calls > 0, "shards computed it");
    assert.equal((await fetch(`${front}/cluster/status`)).status, 401);
    // The hash of the weights is remembered where the image may write.
    await Deno.stat(`${folder}/flotilla/identities.json`);
  },
);
