import { deepStrictEqual, ok, rejects, strictEqual, throws } from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { AllowedHosts } from "./allowed_hosts.ts";
import { MediaLoader } from "./media_source.ts";

const field = "messages[0].content[1].image_url.url";
const picture = Uint8Array.of(1, 2, 3, 4);

/** A local server; `base` is its `host:port` by address. */
async function withServer(
  handler: (request: Request) => Response | Promise<Response>,
  body: (base: string) => Promise<void>,
): Promise<void> {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, handler);
  try {
    await body(`127.0.0.1:${server.addr.port}`);
  } finally {
    await server.shutdown();
  }
}

function fails(loader: MediaLoader, url: string, code: string, message: RegExp): Promise<void> {
  return rejects(loader.load(url, { field }), (error) => {
    ok(error instanceof OperatingError, String(error));
    strictEqual(error.code, code, error.message);
    ok(message.test(error.message), error.message);
    strictEqual(error.field, field);
    return true;
  });
}

Deno.test("MediaLoader.load() reads data URLs without any allowed host", async () => {
  const loader = new MediaLoader({ allowedHosts: [] });
  deepStrictEqual(await loader.load("data:;base64,AQIDBA==", { field }), picture);
  await fails(loader, "data:;base64,*", "invalid_media", /base64/);
  await fails(loader, "https://example.com/a.png", "media_forbidden", /allows no hosts/);
});

Deno.test("MediaLoader.load() refuses other schemes, credentials and junk", async () => {
  const loader = new MediaLoader({ allowedHosts: ["example.com"] });
  await fails(loader, "file:///etc/passwd", "media_forbidden", /scheme "file:"/);
  await fails(loader, "ftp://example.com/a", "media_forbidden", /scheme "ftp:"/);
  await fails(loader, "https://user:secret@example.com/", "media_forbidden", /credentials/);
  await fails(loader, "not a url", "invalid_media", /not a URL/);
  await fails(loader, "", "invalid_media", /not a URL/);
});

Deno.test("MediaLoader.load() fetches from an allowed host and port", async () => {
  await withServer(() => new Response(picture), async (base) => {
    const loader = new MediaLoader({ allowedHosts: [base] });
    deepStrictEqual(await loader.load(`http://${base}/a.png`, { field }), picture);
  });
});

Deno.test("MediaLoader.load() connects to the address that was checked", async () => {
  const hosts: (string | null)[] = [];
  await withServer((request) => {
    hosts.push(request.headers.get("host"));
    return new Response(picture);
  }, async (base) => {
    const port = base.split(":")[1]!;
    let answers = 0;
    const loader = new MediaLoader({
      allowedHosts: [`store.internal:${port}`],
      // A rebinding name: whatever is answered later is never asked for.
      resolve: () => Promise.resolve(answers++ === 0 ? ["127.0.0.1"] : ["10.0.0.1"]),
    });
    deepStrictEqual(await loader.load(`http://store.internal:${port}/`, { field }), picture);
    strictEqual(answers, 1);
    deepStrictEqual(hosts, [`store.internal:${port}`]);
  });
});

Deno.test("MediaLoader.load() refuses allowed names that lead to addresses not public", async () => {
  const addresses = ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fd00::1"];
  for (const address of addresses) {
    const loader = new MediaLoader({
      allowedHosts: ["evil.example"],
      resolve: () => Promise.resolve(["93.184.216.34", address]),
    });
    await fails(loader, "http://evil.example/", "media_forbidden", /not public$/);
  }
  const literal = new MediaLoader({ allowedHosts: ["127.0.0.1", "[::1]", "169.254.169.254"] });
  for (
    const url of ["http://127.0.0.1/", "http://0x7f.1/", "http://[::1]/", "http://2852039166/"]
  ) {
    await fails(literal, url, "media_forbidden", /not public$/);
  }
});

Deno.test("MediaLoader.load() reports names without an address", async () => {
  const none = new MediaLoader({ allowedHosts: ["a.example"], resolve: () => Promise.resolve([]) });
  await fails(none, "http://a.example/", "media_unreachable", /has no address/);
  const failing = new MediaLoader({
    allowedHosts: ["a.example"],
    resolve: () => Promise.reject(new Error("SERVFAIL")),
  });
  await fails(failing, "http://a.example/", "media_unreachable", /has no address/);
});

Deno.test("MediaLoader.load() follows redirects and checks every hop", async () => {
  await withServer((request) => {
    const { pathname } = new URL(request.url);
    const to = (location: string) => new Response(null, { status: 302, headers: { location } });
    if (pathname === "/relative") return to("picture");
    if (pathname === "/picture") return new Response(picture);
    if (pathname === "/metadata") return to("http://169.254.169.254/latest/meta-data");
    if (pathname === "/file") return to("file:///etc/passwd");
    if (pathname === "/loop") return to("/loop");
    return new Response("gone", { status: 404 });
  }, async (base) => {
    const loader = new MediaLoader({ allowedHosts: [base] });
    deepStrictEqual(await loader.load(`http://${base}/relative`, { field }), picture);
    await fails(loader, `http://${base}/metadata`, "media_forbidden", /169.254.169.254/);
    await fails(loader, `http://${base}/file`, "media_forbidden", /scheme "file:"/);
    await fails(loader, `http://${base}/loop`, "media_unreachable", /more than 3 redirects/);
    await fails(loader, `http://${base}/missing`, "media_unreachable", /status 404$/);
  });
});

Deno.test("MediaLoader.load() caps bytes, declared or not", async () => {
  await withServer((request) => {
    const body = new Uint8Array(5_000);
    if (request.url.endsWith("/declared")) return new Response(body);
    return new Response(new Blob([body]).stream());
  }, async (base) => {
    const loader = new MediaLoader({ allowedHosts: [base], bytesMax: 4_000 });
    const large = /bytes exceed 4000$/;
    await fails(loader, `http://${base}/declared`, "payload_too_large", large);
    await fails(loader, `http://${base}/streamed`, "payload_too_large", large);
  });
});

Deno.test("MediaLoader.load() gives up on slow headers, bodies and on its signal", async () => {
  const { promise: over, resolve: end } = Promise.withResolvers<void>();
  await withServer(async (request) => {
    if (request.url.endsWith("/headers")) {
      await over;
      return new Response(null);
    }
    return new Response(
      new ReadableStream({
        async start(controller) {
          controller.enqueue(Uint8Array.of(1));
          await over;
          controller.close();
        },
      }),
    );
  }, async (base) => {
    const loader = new MediaLoader({ allowedHosts: [base], fetchTimeoutMs: 150 });
    const slow = /longer than 150 ms$/;
    await fails(loader, `http://${base}/headers`, "media_unreachable", slow);
    await fails(loader, `http://${base}/body`, "media_unreachable", slow);
    const signal = AbortSignal.timeout(20);
    const patient = new MediaLoader({ allowedHosts: [base] });
    await rejects(
      patient.load(`http://${base}/body`, { field, signal }),
      (error: OperatingError) => error.code === "cancelled",
    );
    end();
  });
});

Deno.test("MediaLoader.load() reports a closed port", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  const loader = new MediaLoader({ allowedHosts: [`127.0.0.1:${port}`] });
  await fails(loader, `http://127.0.0.1:${port}/`, "media_unreachable", /connection failed/);
});

Deno.test("AllowedHosts.verdict() matches hosts, subdomains and ports", () => {
  const hosts = new AllowedHosts(["Images.Example.com", "*.cdn.example", "10.0.0.5:9000"]);
  const verdict = (url: string) => hosts.verdict(new URL(url));
  strictEqual(verdict("https://images.example.com/a"), "public_addresses_only");
  strictEqual(verdict("http://images.example.com:80/a"), "public_addresses_only");
  strictEqual(verdict("https://images.example.com:8443/a"), "refused");
  strictEqual(verdict("https://images.example.com.evil.net/"), "refused");
  strictEqual(verdict("https://a.b.cdn.example/"), "public_addresses_only");
  strictEqual(verdict("https://cdn.example/"), "refused");
  strictEqual(verdict("https://evilcdn.example/"), "refused");
  strictEqual(verdict("http://10.0.0.5:9000/"), "any_address");
  strictEqual(verdict("http://10.0.0.5/"), "refused");
});

Deno.test("AllowedHosts refuses entries of another form", () => {
  for (const entry of ["", "*", "http://a.com", "a.com/x", "a b", "*.a.com:80", "a.com:0", "::1"]) {
    throws(() => new AllowedHosts([entry]), RangeError, entry);
  }
});
