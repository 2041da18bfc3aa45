// Tabs as the ARIA practices describe them: one stop for Tab, arrows, Home and End move and choose.

import type { ComponentChildren, JSX } from "preact";

interface Props<T extends string> {
  readonly label: string;
  readonly name: string;
  readonly tabs: readonly { readonly key: T; readonly text: string }[];
  readonly chosen: T;
  readonly onChoose: (key: T) => void;
}

export const tabId = (name: string, key: string): string => `tab-${name}-${key}`;
const panelId = (name: string): string => `panel-${name}`;

export function Tabs<T extends string>({ label, name, tabs, chosen, onChoose }: Props<T>): JSX.Element {
  const move = (event: KeyboardEvent): void => {
    const next = target(
      event.key,
      tabs.findIndex(({ key }) => key === chosen),
      tabs.length,
    );
    const tab = next === null ? undefined : tabs[next];
    if (!tab) return;
    event.preventDefault();
    onChoose(tab.key);
    document.getElementById(tabId(name, tab.key))?.focus();
  };
  return (
    <div class={`tabs tabs-${name}`} role="tablist" aria-label={label} onKeyDown={move}>
      {tabs.map(({ key, text }) => (
        <button
          key={key}
          type="button"
          role="tab"
          id={tabId(name, key)}
          aria-selected={key === chosen}
          aria-controls={panelId(name)}
          tabIndex={key === chosen ? 0 : -1}
          onClick={() => onChoose(key)}
        >
          {text}
        </button>
      ))}
    </div>
  );
}

function target(key: string, now: number, count: number): number | null {
  switch (key) {
    case "ArrowRight":
      return (now + 1) % count;
    case "ArrowLeft":
      return (now + count - 1) % count;
    case "Home":
      return 0;
    case "End":
      return count - 1;
    default:
      return null;
  }
}

interface PanelProps {
  readonly name: string;
  readonly chosen: string;
  readonly children: ComponentChildren;
}

export function TabPanel({ name, chosen, children }: PanelProps): JSX.Element {
  return (
    <div role="tabpanel" id={panelId(name)} aria-labelledby={tabId(name, chosen)}>
      {children}
    </div>
  );
}
