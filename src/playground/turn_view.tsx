/** One question with its answer, live while it streams. All text is inserted as text. */
import { tokensPerSecond, type Turn } from "./conversation.ts";
import type { TileGrid } from "./picture.ts";
import { CopyButton } from "./copy_button.tsx";
import { PictureView } from "./picture_view.tsx";

interface TurnViewProps {
  readonly turn: Turn;
  readonly grids: ReadonlyMap<number, TileGrid>;
  /** Given for the last turn when nothing runs. */
  readonly retry: (() => void) | undefined;
}

export function TurnView({ turn, grids, retry }: TurnViewProps) {
  return (
    <article class="turn" aria-label={turn.question || "Question without text"}>
      <div class="asked">
        {turn.pictures.length > 0 && (
          <div class="asked-pictures">
            {turn.pictures.map((picture) => (
              <PictureView key={picture.id} picture={picture} grid={grids.get(picture.id)} />
            ))}
          </div>
        )}
        {turn.question !== "" && <p class="asked-text">{turn.question}</p>}
      </div>
      <div class={`answer ${turn.state}`}>
        {turn.thinking !== "" && (
          <details class="thinking" open={turn.answer === ""}>
            <summary>{turn.answer === "" ? "Thinking…" : "Thoughts"}</summary>
            <p>{turn.thinking}</p>
          </details>
        )}
        {turn.state === "waiting" && <Waiting turn={turn} />}
        {turn.answer !== "" && <p class="answer-text">{turn.answer}</p>}
        {turn.error !== undefined && <p class="error" role="alert">{turn.error}</p>}
        <footer class="facts">
          <span>{facts(turn).join(" · ")}</span>
          {turn.answer !== "" && turn.state !== "streaming" && (
            <CopyButton text={() => turn.answer} />
          )}
          {retry !== undefined && (
            <button type="button" class="link" onClick={retry}>Ask again</button>
          )}
        </footer>
      </div>
    </article>
  );
}

/** Before the first token: how far the prompt is read. */
function Waiting({ turn }: { readonly turn: Turn }) {
  const { progress } = turn;
  if (progress === undefined || progress.total === 0) {
    return (
      <p class="waiting">
        <span class="pulse" aria-hidden="true" />
        {turn.ranHere ? "Waiting for the model" : "Waiting for the server"}
      </p>
    );
  }
  const what = turn.pictures.length > 0 ? "Looking" : "Reading";
  return (
    <p class="waiting">
      <progress max={progress.total} value={progress.processed} aria-label="Prompt progress" />
      <span>
        {`${what}: ${progress.processed.toLocaleString("en")} of ` +
          `${progress.total.toLocaleString("en")} prompt tokens`}
      </span>
    </p>
  );
}

/** Measured facts of an answer, as far as they are known. */
function facts(turn: Turn): string[] {
  const found: string[] = [];
  if (turn.ranHere) found.push("In this browser");
  if (turn.state === "stopped") found.push("Stopped");
  if (turn.finishReason === "length") found.push("Cut at the token limit");
  if (turn.firstTokenMs !== undefined) found.push(`first token ${seconds(turn.firstTokenMs)}`);
  const speed = tokensPerSecond(turn);
  if (speed !== undefined) found.push(`${speed.toFixed(1)} tokens/s`);
  if (turn.usage !== undefined) {
    const { promptTokens, completionTokens, cachedTokens } = turn.usage;
    const cached = cachedTokens > 0 ? ` (${cachedTokens.toLocaleString("en")} cached)` : "";
    found.push(`${promptTokens.toLocaleString("en")} prompt${cached}`);
    found.push(`${completionTokens.toLocaleString("en")} answer tokens`);
  }
  return found;
}

function seconds(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}
