// What goes with the tab of whole requests: how long their output is, where attention's share stands
// at the cursor, and which prompts cannot be told. No crossing: the server works out none for them.

import type { JSX } from "preact";
import { nearest } from "../data/budget";
import { reachOf } from "../data/request";
import { inTokens, percents, tokens } from "../data/words";
import { KindTag } from "../parts/KindTag";
import { NumberField } from "../parts/NumberField";
import { range, ShareNumber } from "../parts/cells";
import { go, link } from "../state/navigation";
import { runA } from "../state/runs";
import type { Side } from "../state/sides";

const MOST_OUTPUT = 1_000_000;

export function OutputField(): JSX.Element {
  return (
    <NumberField
      label="Output tokens"
      value={link.value.output}
      most={MOST_OUTPUT}
      onChange={(output) => go({ output })}
    />
  );
}

export function Standing({ sides }: { sides: readonly Side[] }): JSX.Element {
  return (
    <dl class="levels standing">
      <div>
        <dt>Attention at the cursor</dt>
        {sides.map(({ name, budget, stops }) => {
          const stop = stops[nearest(stops, link.value.length)];
          const share = (stop?.measured ?? stop?.modelled)?.amounts.get("attention")?.share;
          if (!stop || !share) return null;
          return (
            <dd key={name}>
              {sides.length > 1 && <strong>{name} </strong>}
              <ShareNumber figure={share} />
              <span class="note">
                of a request with {inTokens(stop.length, "prompt")} and{" "}
                {inTokens(link.value.output, "output")}, {range(share, percents)},{" "}
                <KindTag kind={share.kind} more={stop.measured ? budget.how : "summed"} />
              </span>
            </dd>
          );
        })}
      </div>
    </dl>
  );
}

/** What the columns are made of, and what is left out. */
export function Made(): JSX.Element | null {
  const run = runA.value?.run;
  if (!run) return null;
  const { batch, output } = link.value;
  const { tooShort, tooLong, least, most } = reachOf(run, batch, output);
  return (
    <p class="note trust">
      {output === 1
        ? "The prompt yields the one token of the output; there is no decode step. "
        : `The prompt, which yields the first token of the output, and ${tokens(output - 1)} decode ${output === 2 ? "step" : "steps"}, each interpolated between the measured lengths around its own. `}
      {batch > 1 && `${tokens(batch)} such requests side by side. `}
      {tooLong.length > 0 &&
        `Not drawn: prompts of ${listed(tooLong)}, whose output passes the longest decode step that was measured, ${inTokens(most)}. `}
      {tooShort.length > 0 &&
        `Not drawn: prompts of ${listed(tooShort)}, whose output begins below the shortest decode step that was measured, ${inTokens(least)}. `}
      The server answers from what length on attention matters for decode steps and for prompts, not for both
      together; so no such length is shown here.
    </p>
  );
}

const listed = (lengths: readonly number[]): string => {
  const [last = 0, ...rest] = [...lengths].reverse();
  const before = rest.reverse().map(tokens).join(", ");
  return before ? `${before} and ${inTokens(last)}` : inTokens(last);
};
