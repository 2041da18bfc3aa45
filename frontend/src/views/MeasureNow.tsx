// The button that makes numbers: what it will cost, how far it is, and a way out.

import type { JSX } from "preact";
import { cancelMeasuring, measuring, startMeasuring, type Measuring } from "../state/measuring";
import { capabilities } from "../state/server";

export function MeasureNow(): JSX.Element | null {
  const known = capabilities.value;
  if (!known) return null;
  const now = measuring.value;
  if (now.state === "running") return <Running now={now} />;
  const { lengths, max_seconds } = known.measure;
  return (
    <div class="measure">
      <button type="button" class="primary" onClick={() => void startMeasuring()}>
        Measure now
      </button>
      {now.state === "idle" && (
        <p class="note">{`${lengths.length} ${lengths.length === 1 ? "length" : "lengths"} on the running engine, up to ${max_seconds} s; longer on a slow machine`}</p>
      )}
      {now.state === "failed" && (
        <p class="note" role="alert">
          {now.message}
        </p>
      )}
      {now.state === "busy" && (
        <p class="note" role="alert">
          {`${now.message} `}
          <button type="button" class="quiet" onClick={() => void startMeasuring({ force: true })}>
            Measure anyway
          </button>
        </p>
      )}
    </div>
  );
}

function Running({ now }: { now: Extract<Measuring, { state: "running" }> }): JSX.Element {
  if (now.byItself) return <ByItself now={now} />;
  const cost = now.seconds === null ? "" : `, about ${Math.ceil(now.seconds)} s in all`;
  // Without a value the bar says that something goes on, and not how far it is.
  const progress = now.done > 0 ? { value: now.done, max: now.total } : {};
  return (
    <div class="measure">
      <progress aria-label="Measuring" {...progress} />
      <p class="note" role="status">
        {`Measuring: ${now.text}${cost}`}
      </p>
      <button type="button" class="quiet" onClick={cancelMeasuring}>
        Cancel
      </button>
    </div>
  );
}

/** Nobody waits for it, and it gives way: it takes little room. */
function ByItself({ now }: { now: Extract<Measuring, { state: "running" }> }): JSX.Element {
  const progress = now.done > 0 ? { value: now.done, max: now.total } : {};
  return (
    <div class="measure">
      <button type="button" class="primary" onClick={() => void startMeasuring()}>
        Measure now
      </button>
      <p class="note">
        <progress aria-label="Measuring by itself" {...progress} /> Measuring while nobody wants anything; it
        gives way at once.{" "}
        <button type="button" class="quiet" onClick={cancelMeasuring}>
          Stop
        </button>
      </p>
    </div>
  );
}
