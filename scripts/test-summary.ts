// Prints what was skipped and why it is not counted as run, then the closing line `N passed, N failed, N skipped`.
import { readFileSync } from 'node:fs';

interface Assertion {
  status: string;
  fullName: string;
}
interface Results {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  numFailedTestSuites: number;
  testResults: { name: string; status: string; message?: string; assertionResults: Assertion[] }[];
}

const file = process.argv[2] ?? 'build/test-results.json';
let results: Results;
try {
  results = JSON.parse(readFileSync(file, 'utf8')) as Results;
} catch (err) {
  console.error(`test-summary: no test results at ${file}: ${String(err)}`);
  console.log('0 passed, 1 failed, 0 skipped');
  process.exit(1);
}

// A file that cannot be loaded has no tests of its own to count, and must not pass for that.
const brokenFiles = results.testResults.filter(
  (suite) => suite.status === 'failed' && suite.assertionResults.every((test) => test.status !== 'failed'),
);
for (const suite of brokenFiles) console.log(`failed to run: ${suite.name}: ${suite.message ?? ''}`);
for (const suite of results.testResults) {
  for (const test of suite.assertionResults) {
    if (test.status === 'failed') console.log(`failed: ${suite.name}: ${test.fullName}`);
    if (test.status === 'pending' || test.status === 'skipped') console.log(`skipped: ${test.fullName}`);
  }
}
const failed = results.numFailedTests + brokenFiles.length;
const skipped = results.numPendingTests + results.numTodoTests;
console.log(`${results.numPassedTests} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed === 0 && results.numPassedTests > 0 ? 0 : 1);
