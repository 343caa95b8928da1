// Runs lines against one unmodified client: each line of standard input is a JSON string, the body of an async function;
// each line of standard output is what it gave: {"value": …}, or {"error": …} with what the client's exception carries.
"use strict";
const readline = require("node:readline");
const twilio = require(process.argv[2]);

const client = twilio();
client.microvisor.baseUrl = process.env.FLEETVISOR_URL;
const Function = (async () => {}).constructor;

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer;
    try {
      const body = new Function("twilio", "client", "microvisor", JSON.parse(line));
      answer = { value: (await body(twilio, client, client.microvisor.v1)) ?? null };
    } catch (error) {
      const { status, code, message, moreInfo } = error;
      answer = { error: { name: error.constructor.name, status, code, message, moreInfo } };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
})();
