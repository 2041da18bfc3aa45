// What each run's calibration is: asked of the server, brought in a file, or embedded in an exported
// page. Fitting is the server's, so that page and command line cannot disagree.

import { calibrate } from "../api/client";
import { checkCalibration, parseCalibration, type Calibration } from "../data/calibration";
import { AskedOfRuns } from "./asked";

export const calibrations = new AskedOfRuns<Calibration>(async (run) =>
  checkCalibration(await calibrate(run)),
);

/** From a file; throws a message for people if it cannot be read. */
export function importCalibration(text: string): Calibration {
  const calibration = parseCalibration(text);
  calibrations.keep(calibration.run, calibration);
  return calibration;
}
