import type { JSX } from "preact";
import { TabPanel, Tabs } from "./parts/Tabs";
import { go, link } from "./state/navigation";
import type { View } from "./state/link";
import { offline, trouble } from "./state/server";
import { Answer } from "./views/Answer";
import { BudgetView } from "./views/Budget";
import { Header } from "./views/Header";
import { KeyField } from "./views/KeyField";
import { later } from "./views/Later";
import { MeasureNow } from "./views/MeasureNow";
import { RooflineView } from "./views/Roofline";
import { WithSwitches } from "./views/SwitchRail";
import { ValidationView } from "./views/Validation";

const CONTENT: Record<View, () => JSX.Element> = {
  budget: BudgetView,
  validation: ValidationView,
  roofline: RooflineView,
  attention: later("AttentionView"),
  flash: later("FlashView"),
  kv: later("KvCacheView"),
  chat: later("ChatView"),
  switches: later("SwitchesView"),
  runs: later("RunsView"),
};

const TABS = [
  { key: "budget", text: "Budget" },
  { key: "validation", text: "Validation" },
  { key: "roofline", text: "Roofline" },
  { key: "attention", text: "Attention" },
  { key: "flash", text: "Flash" },
  { key: "kv", text: "KV cache" },
  { key: "chat", text: "Chat" },
  { key: "switches", text: "Switches" },
  { key: "runs", text: "Runs" },
] as const;

/** What a saved copy shows: the views that need no server. */
const OFFLINE: readonly View[] = ["budget", "validation", "roofline"];

export function App(): JSX.Element {
  const tabs = offline.value ? TABS.filter(({ key }) => OFFLINE.includes(key)) : TABS;
  const view = tabs.find(({ key }) => key === link.value.view)?.key ?? "budget";
  const Content = CONTENT[view];
  return (
    <>
      <Header />
      <main>
        <KeyField />
        {trouble.value && <p class="banner" role="alert">{`The server cannot be asked: ${trouble.value}`}</p>}
        <div class="lede">
          <Answer />
          <MeasureNow />
        </div>
        <Tabs label="View" name="view" tabs={tabs} chosen={view} onChoose={(key) => go({ view: key })} />
        <TabPanel name="view" chosen={view}>
          <WithSwitches view={view}>
            <Content />
          </WithSwitches>
        </TabPanel>
      </main>
    </>
  );
}
