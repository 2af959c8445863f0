/**
 * Entry of the bundle: makes the conversation from what the browser offers (network, clock, session
 * storage) and mounts the page. The only file that touches those globals on its own.
 */
import { render } from "hono/jsx/dom";
import { systemClock } from "@/clock.ts";
import { Conversation } from "./conversation.ts";
import { Page } from "./page.tsx";

/** Not part of the bundle: it is as large as ten of this page, and few visitors want it. */
const engineUrl = "/web/flotilla.js";
const keyName = "flotilla-api-key";

const conversation = new Conversation({
  fetch: (input, init) => fetch(input, init),
  nowMs: systemClock.nowMs,
  loadEngine: () => import(engineUrl),
  keepPage,
  apiKey: sessionStorage.getItem(keyName) ?? "",
});

interface TrustedTypes {
  createPolicy(
    name: string,
    rules: { createScriptURL: (url: string) => string },
  ): { createScriptURL(url: string): string };
}

/** Has the service worker keep the page; where there is none, the page needs its server. */
async function keepPage(): Promise<void> {
  // Pages that were not loaded securely have no `navigator.serviceWorker`.
  const workers = navigator.serviceWorker as ServiceWorkerContainer | undefined;
  const registered = await workers?.getRegistration("/");
  if (workers === undefined || registered !== undefined) return;
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  const policy = trustedTypes?.createPolicy("flotilla-page", { createScriptURL: (url) => url });
  const url = "/playground/offline_worker.js";
  await workers.register(policy?.createScriptURL(url) ?? url, { scope: "/" });
}

/** The key lives as long as the tab, never longer. */
function rememberKey(key: string): void {
  if (key === "") sessionStorage.removeItem(keyName);
  else sessionStorage.setItem(keyName, key);
}

const root = document.getElementById("root");
if (root !== null) {
  render(<Page conversation={conversation} rememberKey={rememberKey} />, root);
  conversation.connect();
}
