// Runs the AwsSolutions rules of cdk-nag 3 over synthesized cloud assemblies. cdk-nag 3
// reads constructs and the acknowledgments on them, so both are rebuilt from the assembly.
//
// Its arguments are directories of assemblies. It prints an object for each, as JSON:
// violations, and needless: the acknowledgments without which nothing more is found.
const fs = require('fs');
const path = require('path');
const { App, Stack, Validations } = require('aws-cdk-lib');
const { CfnInclude } = require('aws-cdk-lib/cloudformation-include');
const { AwsSolutionsChecks } = require('cdk-nag');

// read returns the templates of an assembly, and what is acknowledged by resource.
function read(directory) {
  const manifest = JSON.parse(fs.readFileSync(path.join(directory, 'manifest.json')));
  const stacks = [];
  for (const artifact of Object.values(manifest.artifacts)) {
    if (artifact.type !== 'aws:cloudformation:stack') continue;
    const metadata = artifact.additionalMetadataFile
      ? JSON.parse(fs.readFileSync(path.join(directory, artifact.additionalMetadataFile)))
      : artifact.metadata || {};
    const acknowledgments = [];
    for (const [construct, entries] of Object.entries(metadata)) {
      const logicalId = entries.find((e) => e.type === 'aws:cdk:logicalId')?.data;
      const rules = new Map();
      for (const entry of entries) {
        if (entry.type !== Validations.ACKNOWLEDGED_RULES_METADATA_KEY) continue;
        for (const [id, reason] of Object.entries(entry.data)) {
          if (!id.includes('::AwsSolutions-')) continue; // the CDK acknowledges warnings of its own
          if (!logicalId) throw new Error(`${construct} is no resource, and acknowledges ${id}`);
          rules.set(id, reason);
        }
      }
      for (const [id, reason] of rules) acknowledgments.push({ logicalId, id, reason });
    }
    stacks.push({ templateFile: path.join(directory, artifact.properties.templateFile), acknowledgments });
  }
  return stacks;
}

// violations are what cdk-nag finds in a template, as "logical ID: rule".
function violations(templateFile, acknowledgments) {
  const stack = new Stack(new App(), 'Rebuilt');
  const template = new CfnInclude(stack, 'Template', { templateFile });
  for (const { logicalId, id, reason } of acknowledgments) {
    Validations.of(template.getResource(logicalId)).acknowledge({ id, reason });
  }
  const found = [];
  for (const v of new AwsSolutionsChecks(stack, { verbose: true }).validateScope(stack).violations) {
    for (const resource of v.violatingResources) found.push(`${resource.constructPath}: ${v.ruleName}: ${v.description}`);
  }
  return found;
}

const results = process.argv.slice(2).map((directory) => {
  const result = { violations: [], needless: [], acknowledgments: [] };
  for (const { templateFile, acknowledgments } of read(directory)) {
    const found = violations(templateFile, acknowledgments);
    result.violations.push(...found);
    for (const dropped of acknowledgments) {
      const name = `${dropped.logicalId}: ${dropped.id}`;
      result.acknowledgments.push(name);
      const without = violations(templateFile, acknowledgments.filter((a) => a !== dropped));
      if (without.length === found.length) result.needless.push(name);
    }
  }
  return result;
});
process.stdout.write(JSON.stringify(results));
