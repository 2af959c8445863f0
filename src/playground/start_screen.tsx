/** What a newcomer sees: three pictures drawn in the page to ask about, or a word of their own. */
import { useMemo, useState } from "hono/jsx/dom";
import type { Conversation, PageState } from "./conversation.ts";
import { canRunHere } from "./local_panel.tsx";
import { drawSample, drawWord, type Sample, samples } from "./samples.ts";

interface StartScreenProps {
  readonly state: PageState;
  readonly conversation: Conversation;
  readonly question: { current: HTMLTextAreaElement | null };
}

export function StartScreen({ state, conversation, question }: StartScreenProps) {
  const place = state.local.phase === "on" ? "in this browser" : "on this server";
  return (
    <section class="start">
      <h2>Ask about a picture</h2>
      <p class="lead">
        {`Drop, paste or choose a picture and ask. It is read ${place} alone. ` +
          "No picture at hand? Take one that your browser draws now."}
      </p>
      {state.local.phase === "off" && canRunHere(state) && (
        <p class="lead">
          <button type="button" class="link" onClick={() => conversation.runHere()}>
            {`Run ${state.model || "the kept model"} in this browser`}
          </button>
        </p>
      )}
      <div class="samples">
        {samples.map((sample) => (
          <SampleCard key={sample.kind} sample={sample} conversation={conversation} />
        ))}
      </div>
      <OwnWord conversation={conversation} question={question} />
    </section>
  );
}

interface SampleCardProps {
  readonly sample: Sample;
  readonly conversation: Conversation;
}

function SampleCard({ sample, conversation }: SampleCardProps) {
  const [turn, setTurn] = useState(0);
  const picture = useMemo(() => drawSample(sample, turn, conversation.nextId()), [turn]);
  const ask = () => {
    conversation.addPictures([picture]);
    conversation.send(sample.question);
  };
  return (
    <div class="sample">
      <button type="button" class="sample-ask" data-sample={sample.kind} onClick={ask}>
        <img src={picture.url} alt="" width={224} height={224} />
        <strong>{sample.label}</strong>
        <span>{sample.question}</span>
      </button>
      <button
        type="button"
        class="link"
        aria-label={`Draw another picture: ${sample.label}`}
        onClick={() => setTurn(turn + 1)}
      >
        Draw another
      </button>
    </div>
  );
}

function OwnWord({ conversation, question }: Omit<StartScreenProps, "state">) {
  return (
    <form
      class="own-word"
      onSubmit={(event: Event) => {
        event.preventDefault();
        const form = event.currentTarget as HTMLFormElement;
        const word = String(new FormData(form).get("word") ?? "").trim();
        if (word === "") return;
        conversation.addPictures([drawWord(word, conversation.nextId())]);
        const box = question.current;
        if (box === null) return;
        box.value = samples[0]!.question;
        box.focus();
      }}
    >
      <label for="own-word">Or your own word</label>
      <input id="own-word" name="word" maxLength={12} autocomplete="off" placeholder="boat" />
      <button type="submit" class="quiet">Draw it</button>
    </form>
  );
}
