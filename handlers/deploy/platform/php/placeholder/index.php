<?php
// Shown until the first release is deployed. It says whether the database of the environment answers, and nothing else
// about it; the answer is HTTP 200 either way.
ini_set('display_errors', '0');

function database_state(): ?bool
{
    $user = getenv('MYSQL_USER');
    if ($user === false || $user === '') {
        return null; // no database belongs to this instance
    }
    if (!class_exists('mysqli')) {
        return false;
    }
    mysqli_report(MYSQLI_REPORT_OFF);
    $db = mysqli_init();
    $db->options(MYSQLI_OPT_CONNECT_TIMEOUT, 2);
    $host = getenv('MYSQL_HOST') ?: 'localhost';
    return @$db->real_connect($host, $user, getenv('MYSQL_PASSWORD') ?: '', getenv('MYSQL_DATABASE') ?: '')
        && @$db->query('SELECT 1') !== false;
}

$database = database_state();
header('Cache-Control: no-store');
?>
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>It runs</title>
<style>
body{margin:0;min-height:100vh;display:grid;place-items:center;font:1.1rem/1.6 system-ui,sans-serif;color:#223;background:#f6f5f1}
main{max-width:34rem;padding:2rem}
h1{font-weight:600;font-size:1.8rem;margin:0 0 .5rem}
p{margin:.5rem 0;color:#556}
</style>
</head>
<body>
<main>
<h1>Your PHP instance is running.</h1>
<?php if ($database === true): ?>
<p>Its database answers.</p>
<?php elseif ($database === false): ?>
<p>Its database does not answer yet.</p>
<?php endif ?>
<p>Nothing has been deployed yet. Publish your first release and it will take the place of this page.</p>
</main>
</body>
</html>
