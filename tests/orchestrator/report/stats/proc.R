# What R's pROC says of some data sets: Rscript proc.R cases.csv. Columns: set, truth, a, b. One line a number: set name value.
suppressPackageStartupMessages(library(pROC))
cases <- read.csv(commandArgs(trailingOnly = TRUE)[1], colClasses = c("character", "integer", "numeric", "numeric"))
tell <- function(set, name, value) cat(sprintf("%s %s %.17g\n", set, name, as.numeric(value)))
for (set in unique(cases$set)) {
  part <- cases[cases$set == set, ]
  a <- roc(part$truth, part$a, levels = c(0, 1), direction = "<", quiet = TRUE)
  b <- roc(part$truth, part$b, levels = c(0, 1), direction = "<", quiet = TRUE)
  tell(set, "auc_a", auc(a))
  tell(set, "auc_b", auc(b))
  tell(set, "var_a", var(a, method = "delong"))
  tell(set, "var_b", var(b, method = "delong"))
  tell(set, "cov", cov(a, b, method = "delong"))
  interval <- ci.auc(a, method = "delong", conf.level = 0.9)
  tell(set, "low", interval[1])
  tell(set, "high", interval[3])
  test <- roc.test(a, b, method = "delong", paired = TRUE)
  tell(set, "z", test$statistic)
  tell(set, "p", test$p.value)
}
