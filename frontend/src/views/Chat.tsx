// A conversation with the engine behind the page; how fast it answers is always in sight.

import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import { duration } from "../data/words";
import { modelName } from "../state/server";
import {
  clock,
  firstToken,
  forget,
  hush,
  messages,
  pace,
  rate,
  rateNow,
  say,
  talking,
  talkTrouble,
} from "../state/talk";

export function ChatView(): JSX.Element {
  return (
    <div class="chat">
      <h2>Talk to {modelName.value || "the model"}</h2>
      <div class="messages" role="log" aria-label="Conversation" aria-busy={talking.value} tabIndex={0}>
        {messages.value.length === 0 && (
          <p class="note">The answer streams from the engine on this machine; nothing leaves it.</p>
        )}
        {messages.value.map(({ role, content }, index) => (
          <p key={index} class={`message ${role}`}>
            <span class="speaker">{role === "user" ? "You" : modelName.value}</span>
            <span class="text">{content || "…"}</span>
          </p>
        ))}
      </div>
      <Speed />
      {talkTrouble.value && <p role="alert">{talkTrouble.value}</p>}
      <Composer />
    </div>
  );
}

function Speed(): JSX.Element {
  const now = pace.value;
  const wait = now && firstToken(now);
  const speed = now && (talking.value ? rateNow(now, Math.max(now.last, clock.value)) : rate(now));
  return (
    <div class="speed">
      <dl>
        <div>
          <dt>first token</dt>
          <dd class="number">{wait ? duration(wait) : "–"}</dd>
        </div>
        <div>
          <dt>tokens a second</dt>
          <dd class="number">{speed ? speed.toFixed(1) : "–"}</dd>
        </div>
        <div>
          <dt>tokens</dt>
          <dd class="number">{now ? `${now.exact ? "" : "≈ "}${now.count}` : "–"}</dd>
        </div>
      </dl>
      <p class="note">
        {now &&
          `${now.exact ? "Counted by the engine" : "Pieces of text"}, timed in this browser; the speed is the ${
            talking.value ? "last second" : "whole answer"
          }'s.`}
      </p>
    </div>
  );
}

function Composer(): JSX.Element {
  const field = useRef<HTMLTextAreaElement>(null);
  const send = (): void => {
    const text = field.current?.value.trim();
    if (!text || !field.current || talking.value) return;
    field.current.value = "";
    void say(text);
  };
  // Enter sends, Shift+Enter starts a line; Enter that ends a composed character does neither.
  const keys = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    send();
  };
  return (
    <form class="composer" onSubmit={submit}>
      <label for="prompt">Your message</label>
      <textarea id="prompt" ref={field} rows={3} onKeyDown={keys} aria-describedby="prompt-keys" />
      <p id="prompt-keys" class="note">
        Enter sends, Shift + Enter starts a new line.
      </p>
      <div class="buttons">
        {talking.value ? (
          <button type="button" class="primary" onClick={hush}>
            Stop
          </button>
        ) : (
          <button type="submit" class="primary">
            Send
          </button>
        )}
        <button type="button" class="quiet" onClick={forget} disabled={messages.value.length === 0}>
          New conversation
        </button>
      </div>
    </form>
  );
}
