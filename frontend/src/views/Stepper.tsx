// Steps to be taken one by one, by a slider, or on their own until somebody stops them. A step jumps:
// nothing moves in between, whether or not the reader's system asks for less motion.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

const PACE_MS = 700;

interface Props {
  readonly step: number;
  readonly count: number;
  readonly valueText: string;
  readonly told: string;
  readonly onStep: (step: number) => void;
}

export function Stepper({ step, count, valueText, told, onStep }: Props): JSX.Element {
  const [playing, setPlaying] = useState(false);
  const last = step >= count - 1;
  useEffect(() => {
    if (!playing) return;
    if (last) {
      setPlaying(false);
      return;
    }
    const timer = setTimeout(() => onStep(step + 1), PACE_MS);
    return () => clearTimeout(timer);
  }, [playing, step, last]);
  const take = (next: number): void => {
    setPlaying(false);
    onStep(next);
  };
  return (
    <div class="stepper" role="group" aria-label="Steps">
      <div class="buttons">
        <button type="button" aria-disabled={step === 0} onClick={() => take(Math.max(0, step - 1))}>
          Back
        </button>
        <button
          type="button"
          class="primary"
          onClick={() => {
            if (!playing && last) onStep(0);
            setPlaying(!playing);
          }}
        >
          {playing ? "Pause" : "Play"}
        </button>
        <button type="button" aria-disabled={last} onClick={() => take(Math.min(count - 1, step + 1))}>
          Next
        </button>
        <span class="note number">{`${step + 1} of ${count}`}</span>
      </div>
      <input
        type="range"
        class="cursor wide"
        aria-label="Tile"
        aria-valuetext={valueText}
        min="1"
        max={count}
        step="1"
        value={step + 1}
        onInput={(event) => take(Number(event.currentTarget.value) - 1)}
      />
      <p class="told" aria-live={playing ? "off" : "polite"}>
        {told}
      </p>
    </div>
  );
}
