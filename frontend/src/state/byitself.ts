// Measuring by itself: when the engine's switches are as nobody measured them here, and nobody has
// wanted anything of this page for a while, the engine is asked to measure. It gives way to whatever
// else is wanted of it, and then this begins again.

import { effect } from "@preact/signals";
import { getHealth } from "../api/client";
import { link } from "./navigation";
import { declined, measuring, startMeasuring } from "./measuring";
import { entries } from "./runs";
import { capabilities } from "./server";
import { engineSwitches, hasSwitches, settled } from "./setting";
import { talking } from "./talk";
import { wishes } from "./switching";

/** Seconds without a wish before it begins, and before it is looked again after giving way. */
const REST_MS = 1500;
const AGAIN_MS = 5000;

/** Views that show the engine at work: a measurement would be all that it does. */
const WATCHING = new Set(["kv"]);

/** Whether the engine's switches are as they were in some measurement here. */
function isMeasured(): boolean {
  const [known, switches] = [capabilities.value, engineSwitches.value];
  if (!known || !switches) return true;
  return entries.value.some(
    (entry) =>
      entry.kind === "measured" &&
      entry.model === known.model.name &&
      hasSwitches(settled(entry.switches, known.engine.device), switches),
  );
}

const isWanted = (): boolean =>
  capabilities.value?.measure.by_itself === true &&
  measuring.value.state === "idle" &&
  !declined.value &&
  wishes.value.size === 0 &&
  !talking.value &&
  link.value.phase === "decode" &&
  link.value.batch === 1 &&
  !WATCHING.has(link.value.view) &&
  !isMeasured();

/** To be called once; goes on for as long as the page is open. */
export function measureByItself(): void {
  let waiting: ReturnType<typeof setTimeout> | undefined;
  let restMs = REST_MS;
  effect(() => {
    const wanted = isWanted();
    clearTimeout(waiting);
    if (wanted) waiting = setTimeout(() => void begin(), restMs);
  });

  async function begin(): Promise<void> {
    restMs = AGAIN_MS;
    if (document.hidden || !isWanted()) return;
    if (await isBusy()) waiting = setTimeout(() => void begin(), AGAIN_MS);
    else await startMeasuring({ background: true });
  }
}

/** Whether somebody else's answers are being made. */
async function isBusy(): Promise<boolean> {
  try {
    const { num_running: running, num_waiting: waiting } = await getHealth();
    return running + waiting > 0;
  } catch {
    return true; // no engine now
  }
}
