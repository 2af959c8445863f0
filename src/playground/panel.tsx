/** The side panel: where the model runs, sampling settings, the API key, and the last request as a shell command. */
import { curlCommand, type Settings, shortenDataUrls } from "./chat_request.ts";
import type { Conversation, PageState } from "./conversation.ts";
import { CopyButton } from "./copy_button.tsx";
import { LocalPanel } from "./local_panel.tsx";

interface PanelProps {
  readonly state: PageState;
  readonly conversation: Conversation;
  readonly rememberKey: (key: string) => void;
  readonly close: () => void;
}

export function Panel({ state, conversation, rememberKey, close }: PanelProps) {
  return (
    <aside class="panel" aria-label="Settings">
      <div class="panel-head">
        <h2>Settings</h2>
        <button type="button" class="link" onClick={close}>Close</button>
      </div>
      <LocalPanel state={state} conversation={conversation} />
      <Sampling state={state} conversation={conversation} />
      <AccessKey state={state} conversation={conversation} rememberKey={rememberKey} />
      {state.lastBody !== undefined && <LastRequest body={state.lastBody} state={state} />}
    </aside>
  );
}

interface SectionProps {
  readonly state: PageState;
  readonly conversation: Conversation;
}

/** The number of an input; undefined when it is empty or not a valid number. */
function inputNumber(event: Event): number | undefined {
  const input = event.currentTarget as HTMLInputElement;
  return input.value === "" || !input.validity.valid ? undefined : input.valueAsNumber;
}

function Sampling({ state, conversation }: SectionProps) {
  const { settings } = state;
  const change = (patch: Partial<Settings>) => conversation.setSettings(patch);
  return (
    <fieldset class="fields">
      <legend class="visually-hidden">Sampling</legend>
      <label>
        Temperature
        <input
          type="number"
          min={0}
          max={2}
          step="any"
          value={settings.temperature ?? ""}
          placeholder="server's choice"
          onInput={(event: Event) => change({ temperature: inputNumber(event) })}
        />
      </label>
      <label>
        Longest answer, tokens
        <input
          type="number"
          min={1}
          value={settings.maxTokens ?? ""}
          placeholder="what fits"
          onInput={(event: Event) => change({ maxTokens: inputNumber(event) })}
        />
      </label>
      <label>
        Seed
        <input
          type="number"
          min={0}
          value={settings.seed ?? ""}
          placeholder="a new one each time"
          onInput={(event: Event) => change({ seed: inputNumber(event) })}
        />
      </label>
      <label class="check">
        <input
          type="checkbox"
          checked={settings.thinking}
          onChange={(event: Event) =>
            change({ thinking: (event.currentTarget as HTMLInputElement).checked })}
        />
        Think before answering
      </label>
      <label>
        System prompt
        <textarea
          rows={3}
          placeholder="the model's own"
          onInput={(event: Event) =>
            change({ system: (event.currentTarget as HTMLTextAreaElement).value })}
        >
          {settings.system}
        </textarea>
      </label>
    </fieldset>
  );
}

function AccessKey({ state, conversation, rememberKey }: Omit<PanelProps, "close">) {
  return (
    <form
      class="fields"
      onSubmit={(event: Event) => {
        event.preventDefault();
        const form = event.currentTarget as HTMLFormElement;
        const key = String(new FormData(form).get("key") ?? "").trim();
        rememberKey(key);
        conversation.setApiKey(key);
        conversation.connect();
      }}
    >
      <label>
        API key
        <input
          type="password"
          name="key"
          autocomplete="off"
          value={state.apiKey}
          placeholder={state.server === "locked" ? "this server asks for one" : "not needed"}
        />
      </label>
      <div class="row">
        <button type="submit" class="quiet">Use key</button>
        <small>Kept in this tab only</small>
      </div>
    </form>
  );
}

interface LastRequestProps {
  readonly body: Readonly<Record<string, unknown>>;
  readonly state: PageState;
}

function LastRequest({ body, state }: LastRequestProps) {
  const command = () => curlCommand(location.origin, body, { withKey: state.apiKey !== "" });
  return (
    <section class="request">
      <div class="panel-head">
        <h3>Last request</h3>
        <CopyButton text={command} />
      </div>
      <pre tabIndex={0}>{shortenDataUrls(command())}</pre>
    </section>
  );
}
