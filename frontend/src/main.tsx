import { effect } from "@preact/signals";
import { render } from "preact";
import { App } from "./App";
import { measureByItself } from "./state/byitself";
import { followAddress, link } from "./state/navigation";
import { openEmbedded } from "./state/embedded";
import { idA, load } from "./state/runs";
import { capabilities, connect } from "./state/server";
import { fellowOf, setting } from "./state/setting";
import { followTheme } from "./state/theme";
import { loadLive } from "./views/Later";
import "./styles/page.css";

const root = document.getElementById("app");
if (!root) throw new Error("The page has no place for the application.");

const embedded = openEmbedded();
followAddress();
followTheme();
render(<App />, root);

if (!embedded) {
  void connect();
  void loadLive();
  measureByItself();
  // Runs are fetched when the address names them, as soon as the server answers.
  effect(() => {
    if (!capabilities.value) return;
    void load(idA.value);
    void load(link.value.b);
    if (setting.value) void load(fellowOf(setting.value));
  });
}
