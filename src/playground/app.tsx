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
  apiKey: sessionStorage.getItem(keyName) ?? "",
});

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
