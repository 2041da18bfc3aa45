// Every end-to-end test opens the built page on a mock server of its own, and fails if the page asks
// any other origin, breaks the content security policy, or logs an error.

import { test as base, expect, type Page } from "@playwright/test";
import { startMock, type Mock } from "../mock";

export const test = base.extend<{ mock: Mock; open: (hash?: string) => Promise<Page> }>({
  mock: async ({}, use) => {
    const mock = await startMock();
    await use(mock);
    await mock.close();
  },
  open: async ({ page, mock }, use) => {
    const strangers: string[] = [];
    const complaints: string[] = [];
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(mock.url) && !url.startsWith("blob:")) strangers.push(url);
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => {
      const expected = /status of (400|401|404|409)|ERR_INCOMPLETE_CHUNKED/.test(message.text());
      if (message.type() === "error" && !expected) complaints.push(message.text());
    });
    await use(async (hash = "") => {
      await page.goto(mock.url + hash);
      return page;
    });
    expect(strangers, "requests to other origins").toEqual([]);
    expect(complaints, "errors of the page").toEqual([]);
  },
});

export { expect };
