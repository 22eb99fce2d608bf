// Finds the SDK and zod where they were installed, outside the source tree.
//
// Installs nothing; tests/clients/run.sh does.
//
// Invariants: what is exported comes from the versions in package-lock.json.

import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const installed = process.env.CLIENT_MODULES ?? fileURLToPath(new URL("../../../target/clients/node/", import.meta.url));
const require = createRequire(`${installed.replace(/\/?$/, "/")}package.json`);

export const sdk = require("openai");
export const { OpenAI } = sdk;
export const { zodResponseFormat } = require("openai/helpers/zod");
export const { z } = require("zod");
