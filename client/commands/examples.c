/* SPDX-License-Identifier: Apache-2.0 */
/* Two to four examples for each command. */
#include "client/commands/examples.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *command, *lines;
} example_rows[] = {
    {"model ls", "  didictl model ls\n"
                 "  didictl model ls --state broken\n"
                 "  didictl model ls -o name | grep glyph/\n"},
    {"model show", "  didictl model show glyph/mnist\n"
                   "  didictl model show glyph/mnist -o json | jq .tensors[0]\n"},
    {"model rescan", "  didictl model rescan\n"
                     "  cp -r mnist-2 /srv/models/glyph/ && didictl model rescan\n"},
    {"model add", "  didictl model add org/name hf:org/name --wait\n"
                  "  didictl model add org/name@v2 hf:org/name@v2\n"
                  "  didictl model add tasks/a https://host.example/a.safetensors#sha256=HEX\n"
                  "  didictl model add tasks/b s3://bucket/models/b --wait\n"},
    {"model push", "  didictl model push tasks/mnist ./mnist\n"
                   "  didictl model push tasks/mnist config.json model.safetensors\n"
                   "  didictl model push tasks/mnist ./mnist --restart\n"},
    {"model rm", "  didictl model rm tasks/mnist\n"
                 "  didictl model rm tasks/mnist tasks/latin\n"},
    {"model fetches", "  didictl model fetches\n"
                      "  didictl model fetches -o jsonl | jq -r .state\n"},
    {"model cancel", "  didictl model cancel 01jd0000000000000000000000\n"
                     "  didictl model fetches -o name | head -1 | xargs didictl model cancel\n"},
    {"model forget", "  didictl model forget 01jd0000000000000000000000\n"
                     "  didictl model fetches -o name | xargs didictl model forget\n"},
    {"methods", "  didictl methods\n"
                "  didictl methods -o json | jq -r .data[].name\n"},
    {"submit", "  didictl submit --base glyph/base --task mnist=glyph/mnist --task "
               "street=glyph/street --budget S\n"
               "  didictl submit merge.yaml --plan --wait\n"
               "  didictl submit --from-job @latest --budget bytes_ratio=0.3\n"
               "  didictl submit merge.json --set ranks.allocator=exact --dry-run\n"},
    {"extend", "  didictl extend @latest --add orient=glyph/orient --wait\n"
               "  didictl extend @latest --remove latin --add latin=glyph/latin-2\n"
               "  didictl extend 01jd --add thai=glyph/thai --rebalance\n"},
    {"plan", "  didictl plan merge.yaml\n"
             "  didictl plan merge.yaml --budget 1.4 --layers\n"
             "  didictl plan merge.yaml -o json | jq .memory_peak_bytes\n"},
    {"jobs", "  didictl jobs\n"
             "  didictl jobs --state running\n"
             "  didictl jobs --label team=a --limit 100\n"
             "  didictl jobs -o name | head -1\n"},
    {"show", "  didictl show @latest\n"
             "  didictl show 01jd -o json | jq .result.error\n"},
    {"watch", "  didictl watch @latest\n"
              "  didictl watch 01jd\n"
              "  didictl watch @latest -o jsonl | jq .loss\n"},
    {"wait", "  didictl wait @latest && didictl pull @latest out\n"
             "  didictl wait 01jd -q || didictl show 01jd\n"},
    {"cancel", "  didictl cancel @latest\n"
               "  didictl jobs --state queued -o name | xargs didictl cancel\n"},
    {"retry", "  didictl retry @latest\n"
              "  didictl jobs --state failed -o name | xargs didictl retry\n"},
    {"rm", "  didictl rm 01jd\n"
           "  didictl jobs --state cancelled -o name | xargs didictl rm\n"},
    {"events", "  didictl events @latest\n"
               "  didictl events @latest --follow\n"
               "  didictl events @latest -o jsonl | jq -c '[.step, .loss]'\n"},
    {"ranks", "  didictl ranks @latest\n"
              "  didictl ranks @latest --errors\n"
              "  didictl ranks @latest -o json | jq .layers[0]\n"},
    {"frontier", "  didictl frontier @latest\n"
                 "  didictl frontier @latest --bytes\n"
                 "  didictl frontier @latest -o json | jq .marks\n"},
    {"similarity", "  didictl similarity @latest\n"
                   "  didictl similarity @latest --layer encoder.0.weight\n"},
    {"report", "  didictl report @latest\n"
               "  didictl report @latest -O merge.html\n"},
    {"compare", "  didictl compare 01jd 01je\n"
                "  didictl compare $(didictl jobs --limit 3 -o name)\n"
                "  didictl compare 01jd 01je --layers 30\n"},
    {"pull", "  didictl pull @latest out\n"
             "  didictl pull @latest out --format full --task mnist\n"
             "  didictl pull @latest out --format peft --check vllm\n"
             "  didictl pull @latest out --parallel 8\n"},
    {"bakeoff run", "  didictl bakeoff run models.yaml --wait\n"
                    "  didictl bakeoff run --base glyph/base --task mnist=glyph/mnist --task "
                    "thai=glyph/thai\n"
                    "  didictl bakeoff run models.yaml --method ties --method emr --wait\n"},
    {"bakeoff ls", "  didictl bakeoff ls\n"
                   "  didictl bakeoff ls -o name | head -1\n"},
    {"bakeoff show", "  didictl bakeoff show @latest\n"
                     "  didictl bakeoff show @latest -o json | jq .verdict\n"},
    {"bakeoff wait", "  didictl bakeoff wait @latest\n"
                     "  didictl bakeoff wait @latest -o json > bakeoff.json\n"},
    {"bakeoff cancel", "  didictl bakeoff cancel 01jd0000000000000000000000\n"
                       "  didictl bakeoff ls -o name | head -1 | xargs didictl bakeoff cancel\n"},
    {"bakeoff rm", "  didictl bakeoff rm 01jd0000000000000000000000\n"
                   "  didictl bakeoff ls -o name | xargs didictl bakeoff rm\n"},
    {"webhook add",
     "  didictl webhook add https://hooks.example/didid\n"
     "  didictl webhook add https://hooks.example/didid --event job.succeeded --label team=a\n"},
    {"webhook ls", "  didictl webhook ls\n"
                   "  didictl webhook ls -o name\n"},
    {"webhook show", "  didictl webhook show 01jd0000000000000000000000\n"
                     "  didictl webhook show 01jd0000000000000000000000 -o json\n"},
    {"webhook set", "  didictl webhook set 01jd0000000000000000000000 --disable\n"
                    "  didictl webhook set 01jd0000000000000000000000 --event all\n"},
    {"webhook rm", "  didictl webhook rm 01jd0000000000000000000000\n"
                   "  didictl webhook ls -o name | xargs -n1 didictl webhook rm\n"},
    {"webhook rotate", "  didictl webhook rotate 01jd0000000000000000000000\n"
                       "  didictl webhook rotate 01jd0000000000000000000000 --overlap 3600\n"},
    {"webhook test", "  didictl webhook test 01jd0000000000000000000000\n"
                     "  didictl webhook test 01jd0000000000000000000000 && echo taken\n"},
    {"webhook deliveries",
     "  didictl webhook deliveries 01jd0000000000000000000000\n"
     "  didictl webhook deliveries 01jd0000000000000000000000 --state failed\n"},
    {"webhook delivery",
     "  didictl webhook delivery 01jd0000000000000000000000 01je0000000000000000000000\n"
     "  didictl webhook delivery 01jd0000000000000000000000 01je0000000000000000000000 -o json\n"},
    {"webhook redeliver",
     "  didictl webhook redeliver 01jd0000000000000000000000 01je0000000000000000000000\n"
     "  didictl webhook redeliver 01jd0000000000000000000000 01je0000000000000000000000 -q\n"},
    {"hook add", "  didictl hook add nightly hook.yaml --new-secret\n"
                 "  didictl hook add mlflow mlflow.json --secret-file secret\n"},
    {"hook ls", "  didictl hook ls\n"
                "  didictl hook ls -o name\n"},
    {"hook show", "  didictl hook show nightly\n"
                  "  didictl hook show nightly -o json\n"},
    {"hook rm", "  didictl hook rm nightly\n"
                "  didictl hook ls -o name | xargs -n1 didictl hook rm\n"},
    {"hook try", "  didictl hook try nightly payload.json\n"
                 "  didictl hook try github push.json --header X-GitHub-Event=push\n"},
    {"hook poll", "  didictl hook poll mlflow\n"
                  "  didictl hook poll mlflow && didictl hook deliveries mlflow\n"},
    {"hook deliveries", "  didictl hook deliveries nightly\n"
                        "  didictl hook deliveries nightly --limit 5\n"},
    {"status", "  didictl status\n"
               "  didictl status --watch\n"
               "  didictl status -o json | jq .disk.free_bytes\n"},
    {"backup", "  didictl backup didid.db\n"
               "  didictl backup /backup/didid-$(date +%F).db\n"},
    {"doctor", "  didictl doctor\n"
               "  didictl doctor -o json | jq .\n"},
    {"login", "  didictl login https://didid.example:7878\n"
              "  didictl login https://didid.example:7878 --name work < token\n"},
    {"logout", "  didictl logout\n"
               "  didictl --context work logout\n"},
    {"context ls", "  didictl context ls\n"
                   "  didictl context ls -o name\n"},
    {"context use", "  didictl context use work\n"
                    "  didictl context use didid.example:7878 && didictl jobs\n"},
    {"context show", "  didictl context show\n"
                     "  didictl --context work context show\n"},
    {"context rm", "  didictl context rm work\n"
                   "  didictl context ls -o name | xargs -n1 didictl context rm\n"},
    {"token create", "  didictl token create laptop --scope submit --expires 90d\n"
                     "  didictl token create grafana --scope read > token\n"},
    {"token ls", "  didictl token ls\n"
                 "  didictl token ls -o json\n"},
    {"token rm", "  didictl token rm 01jd0000000000000000000000\n"
                 "  didictl token ls -o name | head -1 | xargs didictl token rm\n"},
    {"version", "  didictl version\n"
                "  didictl version --client -o json\n"},
    {"completion", "  source <(didictl completion bash)\n"
                   "  source <(didictl completion zsh)\n"
                   "  didictl completion fish | source\n"},
};

const char *examples_of(const char *command)
{
    for (size_t i = 0; i < sizeof example_rows / sizeof example_rows[0]; i++)
        if (strcmp(example_rows[i].command, command) == 0)
            return example_rows[i].lines;
    return NULL;
}
