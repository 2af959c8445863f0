/**
 * Entry of the bundle: makes the watch from what the browser offers (network, timers, session
 * storage) and mounts the page. The only file that touches those globals on its own.
 */
import { render } from "hono/jsx/dom";
import { ClusterWatch } from "./cluster_watch.ts";
import { Page } from "./page.tsx";

/** The playground's: a key that was given there is known here. */
const keyName = "flotilla-api-key";

const watch = new ClusterWatch({
  fetch: (input, init) => fetch(input, init),
  apiKey: sessionStorage.getItem(keyName) ?? "",
});

/** The key lives as long as the tab, never longer. */
function rememberKey(key: string): void {
  if (key === "") sessionStorage.removeItem(keyName);
  else sessionStorage.setItem(keyName, key);
  watch.setApiKey(key);
}

const PERIOD_MS = 1000;

const root = document.getElementById("root");
if (root !== null) {
  render(<Page watch={watch} rememberKey={rememberKey} />, root);
  watch.refresh();
  // Nobody looks at a hidden tab: it asks for nothing.
  setInterval(() => document.hidden ? undefined : watch.refresh(), PERIOD_MS);
}
