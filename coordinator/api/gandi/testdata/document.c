/* The calls of the API document over xmlrpc-c. See document.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xmlrpc-c/base.h>
#include <xmlrpc-c/client.h>

static xmlrpc_env env;
static const char *url, *key;

static void check(void)
{
	if (env.fault_occurred) {
		fprintf(stderr, "fault %d: %s\n", env.fault_code, env.fault_string);
		exit(1);
	}
}

/* call sends the key and, unless it is NULL, one parameter or two. */
static xmlrpc_value *call(const char *method, xmlrpc_value *first, xmlrpc_value *second)
{
	xmlrpc_value *params = xmlrpc_build_value(&env, "(s)", key);
	check();
	if (first)
		xmlrpc_array_append_item(&env, params, first);
	if (second)
		xmlrpc_array_append_item(&env, params, second);
	check();
	xmlrpc_value *result = xmlrpc_client_call_params(&env, url, method, params);
	xmlrpc_DECREF(params);
	return result;
}

static xmlrpc_value *must(const char *method, xmlrpc_value *first, xmlrpc_value *second)
{
	xmlrpc_value *result = call(method, first, second);
	check();
	return result;
}

static xmlrpc_value *member(xmlrpc_value *s, const char *name)
{
	xmlrpc_value *v;
	xmlrpc_struct_find_value(&env, s, name, &v);
	check();
	if (!v) {
		fprintf(stderr, "no member %s\n", name);
		exit(1);
	}
	return v;
}

static xmlrpc_value *item(xmlrpc_value *array, int index)
{
	xmlrpc_value *v;
	xmlrpc_array_read_item(&env, array, index, &v);
	check();
	return v;
}

static const char *text(xmlrpc_value *v)
{
	const char *s;
	xmlrpc_read_string(&env, v, &s);
	check();
	return s;
}

static int number(xmlrpc_value *v)
{
	int n;
	xmlrpc_read_int(&env, v, &n);
	check();
	return n;
}

static int length(xmlrpc_value *array)
{
	int n = xmlrpc_array_size(&env, array);
	check();
	return n;
}

static const char *nil(xmlrpc_value *v) { return xmlrpc_value_type(v) == XMLRPC_TYPE_NIL ? "nil" : "value"; }

static void finish(xmlrpc_value *op)
{
	time_t deadline = time(NULL) + 60;
	while (strcmp(text(member(must("operation.info", member(op, "id"), NULL), "step")), "DONE"))
		if (time(NULL) > deadline)
			exit(1);
}

static xmlrpc_value *size(const char *value)
{
	xmlrpc_value *v = xmlrpc_build_value(&env, "{s:s}", "size", value);
	check();
	return v;
}

static xmlrpc_value *spec(const char *vhost, int dry)
{
	xmlrpc_value *v = xmlrpc_build_value(&env, "{s:s,s:s,s:s,s:i,s:(s),s:i,s:s,s:s,s:b}", "name", "My PaaS", "size", "m", "type", "phpmysql",
		"datacenter_id", 1, "vhosts", vhost, "quantity", 0, "duration", "3m", "password", "xxxxxxxxxx", "--dry-run", dry);
	check();
	return v;
}

int main(void)
{
	int i;
	url = getenv("URL");
	key = getenv("KEY");
	xmlrpc_env_init(&env);
	xmlrpc_client_init2(&env, XMLRPC_CLIENT_NO_FLAGS, "Documentation Client", "0.1", NULL, 0);
	check();

	printf("version %s\n", text(member(must("version.info", NULL, NULL), "api_version")));
	printf("empty %d %d\n", length(must("paas.list", xmlrpc_nil_new(&env), NULL)), number(must("paas.count", NULL, NULL)));
	xmlrpc_value *bad = item(must("paas.create", spec("vhost.test.fr", 1), NULL), 0);
	printf("dry run %s %s %s %s %s\n", text(member(bad, "field")), text(member(bad, "error")), text(item(member(bad, "attr"), 0)),
		nil(member(bad, "field_type")), text(member(bad, "reason")));
	xmlrpc_value *ops = must("paas.create", spec("vhost.hosted.test", 0), NULL);
	printf("create");
	for (i = 0; i < length(ops); i++)
		printf(" %s", text(member(item(ops, i), "type")));
	printf("\n");
	for (i = 0; i < length(ops); i++)
		finish(item(ops, i));
	xmlrpc_value *row = item(must("paas.list", NULL, NULL), 0);
	xmlrpc_bool upgrade;
	xmlrpc_read_bool(&env, member(row, "need_upgrade"), &upgrade);
	check();
	printf("list %s %s %s %s %s %d\n", text(member(row, "name")), text(member(row, "catalog_name")), text(member(row, "state")),
		nil(member(row, "date_end_commitment")), upgrade ? "other" : "false", length(member(row, "servers")));
	printf("filtered %d %d %d\n", length(must("paas.list", size("s"), NULL)), number(must("paas.count", size("s"), NULL)),
		number(must("paas.count", size("m"), NULL)));
	xmlrpc_value *id = member(row, "id");
	xmlrpc_value *info = must("paas.info", id, NULL);
	double disk;
	xmlrpc_read_double(&env, member(info, "datadisk_total_size"), &disk);
	check();
	printf("info %s %s %.7s %.1f\n", text(member(member(info, "datacenter"), "iso")), text(member(item(member(info, "vhosts"), 0), "name")),
		text(item(member(member(item(member(info, "servers"), 0), "graph_urls"), "vcpu"), 0)), disk);
	ops = must("paas.update", id, size("xl"));
	printf("update %s\n", text(member(item(ops, 0), "type")));
	finish(item(ops, 0));
	xmlrpc_value *op = must("paas.delete", id, NULL);
	printf("delete %s\n", text(member(op, "type")));
	finish(op);
	call("paas.info", id, NULL);
	printf("fault %d\n", env.fault_code);
	return 0;
}
