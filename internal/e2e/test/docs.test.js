// The pages of the documentation that need Node and npm: their commands and programs do what the pages say. The test is
// in Go, with those of the other pages.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

test("the pages with Node", () => {
  const { status, stdout, stderr } = spawnSync("go", ["test", "-count=1", "-run", "TestGuides", "./internal/docstest"], {
    cwd: new URL("../../..", import.meta.url),
    env: { ...process.env, DOCS_NPM: "1" },
    encoding: "utf8",
  });
  assert.equal(status, 0, stdout + stderr);
});
