/** The whole page: header, conversation, composer and panel, and how pictures get in. */
import { useEffect, useRef, useState, useSyncExternalStore } from "hono/jsx/dom";
import { Composer } from "./composer.tsx";
import type { Conversation, PageState } from "./conversation.ts";
import { progressShare } from "./local_panel.tsx";
import { readPicture } from "./picture.ts";
import { Panel } from "./panel.tsx";
import { StartScreen } from "./start_screen.tsx";
import { TurnView } from "./turn_view.tsx";

interface PageProps {
  readonly conversation: Conversation;
  readonly rememberKey: (key: string) => void;
}

export function Page({ conversation, rememberKey }: PageProps) {
  const state = useSyncExternalStore(conversation.subscribe, conversation.state);
  const [panelOpen, setPanelOpen] = useState(() => matchMedia("(min-width: 1100px)").matches);
  const [dragging, setDragging] = useState(false);
  const question = useRef<HTMLTextAreaElement>(null);

  const addFiles = async (files: Iterable<File>) => {
    for (const file of files) {
      try {
        conversation.addPictures([await readPicture(file, conversation.nextId())]);
      } catch (error) {
        conversation.setNotice(error instanceof Error ? error.message : String(error));
      }
    }
    question.current?.focus();
  };
  useEffect(() => listenForPictures(addFiles, setDragging), []);
  useEffect(() => listenForEscape(() => conversation.stop()), []);

  return (
    <div class={`shell${panelOpen ? " with-panel" : ""}${dragging ? " dragging" : ""}`}>
      <Header
        state={state}
        conversation={conversation}
        panelOpen={panelOpen}
        togglePanel={() => setPanelOpen(!panelOpen)}
      />
      <main class="main">
        <Log state={state} conversation={conversation} question={question} />
        {state.notice !== undefined && (
          <p class="notice" role="alert">
            <span>{state.notice}</span>
            {state.server !== "ready" && state.server !== "connecting" && (
              <button
                type="button"
                class="link"
                onClick={() => conversation.connect()}
              >
                Try again
              </button>
            )}
          </p>
        )}
        <Composer
          state={state}
          conversation={conversation}
          question={question}
          addFiles={addFiles}
        />
      </main>
      {panelOpen && (
        <Panel
          state={state}
          conversation={conversation}
          rememberKey={rememberKey}
          close={() => setPanelOpen(false)}
        />
      )}
      <div class="drop-hint" aria-hidden="true">Drop pictures anywhere</div>
    </div>
  );
}

interface HeaderProps {
  readonly state: PageState;
  readonly conversation: Conversation;
  readonly panelOpen: boolean;
  readonly togglePanel: () => void;
}

const serverLabels = {
  connecting: "Connecting",
  ready: "Ready",
  locked: "API key needed",
  offline: "Not reachable",
};

/** Who answers, or why nobody does. */
function statusOf({ server, local }: PageState): { kind: string; label: string } {
  if (local.phase === "on") return { kind: "here", label: "In this browser" };
  if (local.phase === "loading") return { kind: "loading", label: progressShare(local.progress) };
  return { kind: server, label: serverLabels[server] };
}

function Header({ state, conversation, panelOpen, togglePanel }: HeaderProps) {
  return (
    <header class="bar">
      <h1 class="brand">
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <path d="M15 4v17H5zM18 9v12h8zM4 24h24l-4 5H8z" />
        </svg>
        <span>Flotilla</span>
      </h1>
      <span class={`status ${statusOf(state).kind}`} role="status">
        <span class="dot" aria-hidden="true" />
        <span class="status-text">{statusOf(state).label}</span>
      </span>
      <span class="spacer" />
      <select
        class="model"
        aria-label="Model"
        disabled={state.models.length === 0}
        onChange={(event: Event) =>
          conversation.setModel((event.currentTarget as HTMLSelectElement).value)}
      >
        {state.models.length === 0 && <option value="">No model</option>}
        {state.models.map((id) => (
          <option key={id} value={id} selected={id === state.model}>{id}</option>
        ))}
      </select>
      <button
        type="button"
        class="quiet"
        disabled={state.turns.length === 0 && state.draft.length === 0}
        onClick={() => conversation.clear()}
      >
        New
      </button>
      <button
        type="button"
        class="quiet"
        aria-expanded={panelOpen ? "true" : "false"}
        onClick={togglePanel}
      >
        Settings
      </button>
    </header>
  );
}

interface LogProps {
  readonly state: PageState;
  readonly conversation: Conversation;
  readonly question: { current: HTMLTextAreaElement | null };
}

/** The conversation; follows the stream while the reader is at its end. */
function Log({ state, conversation, question }: LogProps) {
  const log = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const turnCount = useRef(0);
  useEffect(() => {
    const element = log.current;
    if (element === null) return;
    const asked = state.turns.length !== turnCount.current;
    turnCount.current = state.turns.length;
    if (asked || following.current) element.scrollTop = element.scrollHeight;
  }, [state.turns]);
  useEffect(() => {
    const element = log.current;
    if (element === null) return;
    // A growing composer shortens the log from below.
    const observer = new ResizeObserver(() => {
      if (following.current && element.querySelector(".turn") !== null) {
        element.scrollTop = element.scrollHeight;
      }
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return (
    <div
      class="log"
      ref={log}
      role="log"
      aria-label="Conversation"
      aria-busy={conversation.busy ? "true" : "false"}
      tabIndex={0}
      onScroll={(event: Event) => {
        const { scrollTop, scrollHeight, clientHeight } = event.currentTarget as HTMLElement;
        following.current = scrollHeight - scrollTop - clientHeight < 48;
      }}
    >
      {state.turns.length === 0
        ? <StartScreen state={state} conversation={conversation} question={question} />
        : state.turns.map((turn, index) => (
          <TurnView
            key={turn.id}
            turn={turn}
            grids={state.grids}
            retry={index === state.turns.length - 1 && !conversation.busy
              ? () => conversation.retry()
              : undefined}
          />
        ))}
    </div>
  );
}

/** Pictures dropped on the window or pasted into it; returns how to stop listening. */
function listenForPictures(
  addFiles: (files: Iterable<File>) => void,
  setDragging: (dragging: boolean) => void,
): () => void {
  const controller = new AbortController();
  const { signal } = controller;
  const holdsFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    setDragging(true);
  }, { signal });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) setDragging(false);
  }, { signal });
  addEventListener("drop", (event) => {
    setDragging(false);
    if (!holdsFiles(event)) return;
    event.preventDefault();
    addFiles(event.dataTransfer?.files ?? []);
  }, { signal });
  addEventListener("paste", (event) => {
    const files = event.clipboardData?.files;
    if (files === undefined || files.length === 0) return;
    event.preventDefault();
    addFiles(files);
  }, { signal });
  return () => controller.abort();
}

function listenForEscape(stop: () => void): () => void {
  const controller = new AbortController();
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") stop();
  }, { signal: controller.signal });
  return () => controller.abort();
}
