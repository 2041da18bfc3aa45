// What the model is asked about: a run on its own machine. The machine is the one that was fitted to
// the run; failing that its data sheet's; failing that there is none, and why.

import { saying } from "../api/client";
import type { RunFile } from "../data/runfile";
import type { Machine } from "../model/curve";
import { specHardware } from "../model/peaks";
import { setupOf } from "../model/setup";
import { sheetOf } from "../model/sheet";
import { calibrationOf, isCalibrated } from "./calibration";
import { deviceOf } from "./runs";

export type Subject = Machine;

export interface Waiting {
  readonly waiting: true;
}

export interface Lacking {
  readonly why: string;
}

export type Answerable = Subject | Waiting | Lacking;

export const isSubject = (found: Answerable): found is Subject => "hardware" in found;

/**
 * The run on the machine that was fitted to it.
 *
 * May be called while drawing: whoever read the answer is drawn again when a calibration comes.
 */
export function calibratedSubject(run: RunFile): Answerable {
  try {
    const { spec } = setupOf(run);
    const found = calibrationOf(run);
    if (isCalibrated(found))
      return { spec, limit: limitOf(run), choices: found.choices, hardware: found.hardware };
    if (found === null) return { why: "it has no calibration here" };
    return "waiting" in found ? found : { why: `it was not calibrated: ${found.failed}` };
  } catch (error) {
    return { why: `it lacks what the model needs: ${saying(error)}` };
  }
}

/** The same, or the run on the machine of a data sheet. */
export function subjectOf(run: RunFile): Answerable {
  const found = calibratedSubject(run);
  if (!("why" in found)) return found;
  const sheet = sheetOf(deviceOf(run));
  if (!sheet) return { why: `${ended(found.why)} There is no data sheet of ${deviceOf(run)} here either` };
  try {
    const { spec, choices } = setupOf(run);
    return { spec, choices, limit: limitOf(run), hardware: specHardware(sheet, choices.activation_bytes) };
  } catch {
    return found;
  }
}

/** One full stop at the end, whoever wrote the text. */
export const ended = (text: string): string => `${text.replace(/\.$/, "")}.`;

/** The context of the model that was measured; failing that, the longest cell. */
function limitOf(run: RunFile): number {
  const { spec } = run.model;
  const stated = typeof spec === "object" && spec && "context_length" in spec ? spec.context_length : 0;
  return Math.max(Number(stated) || 0, ...run.cells.map(({ length }) => length));
}
