// The views that need a server: they come after the first load, and a saved copy never asks for them.

import { followLooks } from "../state/looking";

export { AttentionView } from "./Attention";
export { ChatView } from "./Chat";
export { FlashView } from "./Flash";
export { KvCacheView } from "./KvCache";
export { RunsView } from "./Runs";
export { SwitchesView } from "./Switches";

followLooks();
