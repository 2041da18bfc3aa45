// The views that need a server: they come after the first load, and a saved copy never asks for them.

export { ChatView } from "./Chat";
export { KvCacheView } from "./KvCache";
export { RunsView } from "./Runs";
export { SwitchesView } from "./Switches";
