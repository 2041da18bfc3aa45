import type { JSX } from "preact";
import { TabPanel, Tabs } from "./parts/Tabs";
import { go, link } from "./state/navigation";
import type { View } from "./state/link";
import { offline, trouble } from "./state/server";
import { Answer } from "./views/Answer";
import { BudgetView } from "./views/Budget";
import { ChatView } from "./views/Chat";
import { Header } from "./views/Header";
import { KeyField } from "./views/KeyField";
import { MeasureNow } from "./views/MeasureNow";
import { RunsView } from "./views/Runs";
import { SwitchesView } from "./views/Switches";

const CONTENT: Record<View, () => JSX.Element> = {
  budget: BudgetView,
  chat: ChatView,
  switches: SwitchesView,
  runs: RunsView,
};

const TABS = [
  { key: "budget", text: "Budget" },
  { key: "chat", text: "Chat" },
  { key: "switches", text: "Switches" },
  { key: "runs", text: "Runs" },
] as const;

export function App(): JSX.Element {
  const view = offline.value ? "budget" : link.value.view;
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
        {offline.value ? (
          <Content />
        ) : (
          <>
            <Tabs label="View" name="view" tabs={TABS} chosen={view} onChoose={(key) => go({ view: key })} />
            <TabPanel name="view" chosen={view}>
              <Content />
            </TabPanel>
          </>
        )}
      </main>
    </>
  );
}
