/**
 * `train --page`: the report of a run while it runs, as a local page that renews itself. Serves that
 * one page and takes no orders.
 */
import type { RunReport } from "@/training/report/run_report.ts";
import { UsageError } from "./flags.ts";

/** Renews the page's body while it is looked at. */
const script = `setInterval(async () => {
  if (document.hidden) return;
  try {
    const open = document.querySelector("details")?.open;
    document.querySelector("main").innerHTML = await (await fetch("body")).text();
    if (open) document.querySelector("details").open = true;
    document.body.style.opacity = 1;
  } catch {
    document.body.style.opacity = 0.6;
  }
}, 2000);
`;

const policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; " +
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** HOST:PORT, :PORT or PORT; without a host it is this machine alone. */
export function parseAddress(text: string): { hostname: string; port: number } {
  const match = /^(?:(.*):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (!match || port > 65535) throw new UsageError(`--page is "${text}", expected HOST:PORT`);
  const hostname = match[1]?.replace(/^\[(.*)\]$/, "$1");
  return { hostname: hostname || "127.0.0.1", port };
}

function respond(report: RunReport, { url }: Request): Response {
  const page = (body: string, type: string) =>
    new Response(body, {
      headers: {
        "content-type": `${type}; charset=utf-8`,
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
      },
    });
  switch (new URL(url).pathname) {
    case "/":
      return page(report.html("live.js"), "text/html");
    case "/body":
      return page(report.body(), "text/html");
    case "/live.js":
      return page(script, "text/javascript");
    default:
      return new Response("Not found\n", { status: 404 });
  }
}

export interface LivePage {
  /** With a slash at its end. */
  readonly url: string;
  close(): Promise<void>;
}

/** Serves the report until it is closed. */
export function servePage(report: RunReport, address: string): LivePage {
  let url = "";
  const onListen = ({ hostname, port }: { hostname: string; port: number }) => {
    url = `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}/`;
  };
  const server = Deno.serve(
    { ...parseAddress(address), onListen },
    (request) => respond(report, request),
  );
  return { url, close: () => server.shutdown() };
}
