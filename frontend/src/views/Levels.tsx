// The three answers as numbers: where attention becomes visible, matters, and dominates.

import type { JSX } from "preact";
import { LEVELS, type Crossing } from "../data/answers";
import { inTokens, percent, tokens } from "../data/words";
import { KindTag } from "../parts/KindTag";
import type { Side } from "../state/sides";

export function Levels({ sides }: { sides: readonly Side[] }): JSX.Element {
  return (
    <dl class="levels">
      {LEVELS.map(({ key, share, word }) => (
        <div key={key}>
          <dt>
            Attention is {word} <span class="note">≥ {percent(share, 0)}</span>
          </dt>
          {sides.map(({ name, answer }) => (
            <dd key={name}>
              {sides.length > 1 && <strong>{name} </strong>}
              {answer ? <Found crossing={answer[key]} /> : "not known"}
            </dd>
          ))}
        </div>
      ))}
    </dl>
  );
}

function Found({ crossing }: { crossing: Crossing }): JSX.Element {
  const { value, lo, hi, kind, status } = crossing;
  const plain = value !== null && !status.startsWith("already");
  return (
    <>
      <span class="number">{plain ? inTokens(value) : sized(status)}</span>
      <span class="note">
        <KindTag kind={kind} />
        {plain && status !== "found" && `, ${status}`}
        {plain && (lo !== null || hi !== null) && `, ${end(lo)} to ${end(hi)}`}
      </span>
    </>
  );
}

const end = (length: number | null): string => (length === null ? "beyond" : tokens(length));

/** "never up to 8192" → "never up to 8,192". */
const sized = (status: string): string => status.replace(/\d{4,}/, (digits) => tokens(Number(digits)));
