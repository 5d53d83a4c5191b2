// SPDX-License-Identifier: Apache-2.0
// A definition of each kind of hook to begin with, and a payload as its registry sends it.

const GENERIC = {
  definition: {
    kind: "generic", description: "any sender that signs with HMAC-SHA256",
    verify: { signature_header: "webhook-signature", id_header: "webhook-id",
              timestamp_header: "webhook-timestamp", prefix: "v1,", encoding: "base64",
              signed: "id.timestamp.body" },
    rules: [{ name: "merge", when: [{ at: "/type", equals: "training.finished" }],
              submit: { base: "base",
                        tasks: [{ name: "{{/data/task | name}}", model: "{{/data/model}}" }],
                        budget: "M" } }],
  },
  payload: { type: "training.finished", data: { task: "latin", model: "tasks/latin" } },
};

const MLFLOW = {
  definition: {
    kind: "mlflow", description: "a fine-tune that becomes champion is merged",
    maps: { models: { "ocr-latin": "tasks/latin" } },
    rules: [{ name: "champion",
              when: [{ at: "/entity", equals: "model_version_alias" },
                     { at: "/action", equals: "created" },
                     { at: "/data/alias", equals: "champion" }],
              rescan: true,
              submit: { base: "base", budget: "M",
                        tasks: [{ name: "{{/data/name | name}}",
                                  model: "{{/data/name | map models}}" }] } }],
  },
  payload: { entity: "model_version_alias", action: "created",
             data: { name: "ocr-latin", alias: "champion", version: "3" } },
};

const HUB = {
  definition: {
    kind: "huggingface", description: "a new commit of a fine-tune is fetched and merged",
    rules: [{ name: "commit", when: [{ at: "/repo/type", equals: "model" },
                                     { at: "/updatedRefs/0/ref", equals: "refs/heads/main" }],
              fetch: { name: "{{/repo/name}}@{{/updatedRefs/0/newSha}}",
                       source: "hf:{{/repo/name}}@{{/updatedRefs/0/newSha}}" },
              submit: { base: "base", budget: "M",
                        tasks: [{ name: "{{/repo/name | name}}",
                                  model: "{{/repo/name}}@{{/updatedRefs/0/newSha}}" }] } }],
  },
  payload: { event: { action: "update", scope: "repo.content" },
             repo: { type: "model", name: "org/latin",
                     headSha: "1f2e3d4c5b6a79880716253443526170fedcba98" },
             updatedRefs: [{ ref: "refs/heads/main", oldSha: null,
                             newSha: "1f2e3d4c5b6a79880716253443526170fedcba98" }] },
};

const WANDB = {
  definition: {
    kind: "wandb", description: "an automation whose payload names task and model",
    rules: [{ name: "merge", when: [{ at: "/event_type", equals: "LINK_ARTIFACT" }],
              submit: { base: "base", budget: "M",
                        tasks: [{ name: "{{/task | name}}", model: "{{/model}}" }] } }],
  },
  payload: { event_type: "LINK_ARTIFACT", task: "latin", model: "tasks/latin" },
};

const GITHUB = {
  definition: {
    kind: "github", description: "a release named after a model merges it",
    rules: [{ name: "release", when: [{ header: "X-GitHub-Event", equals: "release" },
                                      { at: "/action", equals: "published" }],
              submit: { base: "base", budget: "M",
                        tasks: [{ name: "{{/release/tag_name | name}}",
                                  model: "tasks/{{/release/tag_name}}" }] } }],
  },
  payload: { action: "published", release: { tag_name: "latin" } },
  headers: { "X-GitHub-Event": "release" },
};

/** kind -> {definition, payload, headers}. */
export const EXAMPLES = { generic: GENERIC, mlflow: MLFLOW, huggingface: HUB, wandb: WANDB,
                          github: GITHUB };
