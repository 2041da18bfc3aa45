// What each run's cells made its machine do: counted by the server.

import { countsOf } from "../api/client";
import type { Counts } from "../api/types";
import { AskedOfRuns } from "./asked";

export const counts = new AskedOfRuns<Counts>(countsOf);
