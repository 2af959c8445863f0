/** The official OpenAI clients, unmodified, against a real server on the WASM kernels. */
import assert from "node:assert/strict";
import OpenAI from "openai";
import { optionalTest, probeCommand } from "../skip.ts";
import { fixtureFolder, pictureUrl, ServerProcess } from "./server_process.ts";

const picture = pictureUrl("dense", "small.png");
const question = [
  { type: "image_url" as const, image_url: { url: picture } },
  { type: "text" as const, text: "describe the image" },
];

async function withServer(use: (server: ServerProcess) => Promise<void>): Promise<void> {
  await using server = await ServerProcess.start(["--model", `tiny=${fixtureFolder("dense")}`]);
  await use(server);
}

Deno.test("the openai npm client chats, streams, reads logprobs and errors", async () => {
  await withServer(async (server) => {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
    const models = await client.models.list();
    assert.deepEqual(models.data.map((model) => model.id), ["tiny"]);

    const request = {
      model: "tiny",
      messages: [{ role: "user" as const, content: question }],
      temperature: 0,
      max_tokens: 12,
    };
    const answer = await client.chat.completions.create({
      ...request,
      logprobs: true,
      top_logprobs: 3,
    });
    const text = answer.choices[0]!.message.content!;
    assert.ok(text.length > 0);
    const logprobs = answer.choices[0]!.logprobs!.content!;
    assert.equal(logprobs.length, answer.usage!.completion_tokens);
    assert.ok(logprobs.every((entry) => entry.logprob <= 0 && entry.top_logprobs.length === 3));
    assert.ok(logprobs.every((entry) => entry.top_logprobs[0]!.logprob === entry.logprob));

    let streamed = "";
    let [finish, usage] = ["", 0];
    const stream = await client.chat.completions.create({
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      streamed += chunk.choices[0]?.delta.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage?.completion_tokens ?? usage;
    }
    assert.equal(streamed, text);
    assert.equal(finish, answer.choices[0]!.finish_reason);
    assert.equal(usage, answer.usage!.completion_tokens);

    const several = await client.chat.completions.create({
      ...request,
      temperature: 1,
      seed: 5,
      n: 3,
    });
    assert.equal(several.choices.length, 3);
    const completion = await client.completions.create({
      model: "tiny",
      prompt: "Hello",
      max_tokens: 4,
      echo: true,
      logprobs: 2,
    });
    assert.ok(completion.choices[0]!.text.startsWith("Hello"));

    await assert.rejects(
      client.chat.completions.create({ ...request, temperature: 9 }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature",
    );
    await assert.rejects(
      client.chat.completions.create({ ...request, model: "gpt-x" }),
      (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
    );
  });
});

const python = await probeCommand("python-openai", {
  commands: [Deno.env.get("FLOTILLA_PYTHON") ?? "python3"],
  arguments: ["-c", "import openai"],
});

const PYTHON_PROGRAM = `
import sys, json
from openai import OpenAI, BadRequestError
client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
content = json.load(sys.stdin)
ask = dict(model="tiny", messages=[{"role": "user", "content": content}], temperature=0, max_tokens=8)
answer = client.chat.completions.create(**ask, logprobs=True, top_logprobs=2)
text = answer.choices[0].message.content
assert len(answer.choices[0].logprobs.content) == answer.usage.completion_tokens
streamed = "".join(chunk.choices[0].delta.content or ""
                   for chunk in client.chat.completions.create(**ask, stream=True) if chunk.choices)
assert streamed == text, (streamed, text)
try:
    client.chat.completions.create(**{**ask, "temperature": -1})
    raise SystemExit("no error")
except BadRequestError as error:
    assert error.param == "temperature", error
print("fine")
`;

optionalTest(
  { name: "the openai PyPI client chats, streams, reads logprobs and errors", needs: [python] },
  async () => {
    await withServer(async (server) => {
      const child = new Deno.Command(python.command!, {
        args: ["-c", PYTHON_PROGRAM, server.url],
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode(JSON.stringify(question)));
      await writer.close();
      const { stdout, stderr } = await child.output();
      const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      assert.equal(decode(stdout), "fine\n", decode(stderr));
    });
  },
);
