// The styles of these views come with their script, so that the first load stays small. A sheet made
// by a script is no inline style, which the page's content security policy would forbid.

import css from "../styles/attention.css?inline";

const sheet = new CSSStyleSheet();
sheet.replaceSync(css);
document.adoptedStyleSheets.push(sheet);
